"use strict";
for (const root of document.querySelectorAll(".timeline")) {
  const began = Number(root.dataset.began), until = Number(root.dataset.until);
  const offset = Number(root.dataset.offset), height = Number(root.dataset.row);
  const steps = root.dataset.steps.split(",").map(Number);
  const plot = root.querySelector(".plot"), rows = plot.querySelector(".rows");
  const axis = plot.querySelector(".axis"), grid = plot.querySelector(".grid");
  const bars = Array.from(rows.querySelectorAll(".bar[data-a]"),
    (bar) => ({ bar, a: Number(bar.dataset.a), b: Number(bar.dataset.b) }));
  const svg = "http://www.w3.org/2000/svg";
  const narrowest = 0.2;
  // Pixels that a label of the axis takes.
  const LABEL = 80;
  let from = began, to = until, asked = false;

  const percent = (at) => (at - from) / (to - from) * 100;

  function put(parent, name, attributes, text) {
    const one = document.createElementNS(svg, name);
    for (const [key, value] of Object.entries(attributes)) one.setAttribute(key, value);
    if (text) one.textContent = text;
    parent.append(one);
  }

  function draw() {
    asked = false;
    for (const { bar, a, b } of bars) {
      const outside = b < from || a > to;
      bar.setAttribute("visibility", outside ? "hidden" : "visible");
      if (outside) continue;
      // What is far outside would be too wide for a number of pixels.
      const left = Math.max(percent(a), -5), right = Math.min(percent(b), 105);
      bar.setAttribute("x", left + "%");
      if (b > a) bar.setAttribute("width", Math.max(right - left, 0) + "%");
    }
    const width = plot.clientWidth, most = Math.min(Math.max(Math.floor(width / LABEL), 1), 8);
    const step = steps.find((one) => (to - from) / one <= most) || steps[steps.length - 1];
    axis.replaceChildren();
    grid.replaceChildren();
    for (let n = Math.ceil(from / step); n * step <= to; n += 1) {
      const at = percent(n * step) + "%", x = percent(n * step) / 100 * width;
      const text = new Date((n * step + offset) * 1000).toISOString();
      // Half of a label at an edge would look like another time.
      if (x >= LABEL / 3 && x <= width - LABEL / 3) {
        put(axis, "text", { x: at, y: 15 }, text.slice(11, step < 1 ? 22 : 19));
      }
      put(grid, "line", { x1: at, x2: at, y1: 0, y2: "100%" });
    }
  }

  function show(a, b) {
    const span = Math.min(Math.max(b - a, narrowest), until - began);
    from = Math.min(Math.max(a, began), until - span);
    to = from + span;
    if (!asked) {
      asked = true;
      requestAnimationFrame(draw);
    }
  }

  function zoom(by, at = (from + to) / 2) {
    const span = Math.min(Math.max((to - from) * by, narrowest), until - began);
    const left = at - (at - from) / (to - from) * span;
    show(left, left + span);
  }

  function pan(share) {
    const way = (to - from) * share;
    show(from + way, to + way);
  }

  const deeds = {
    in: () => zoom(0.5), out: () => zoom(2), left: () => pan(-0.25), right: () => pan(0.25),
    all: () => show(began, until),
    go: (button) => {
      const { a, b } = button.closest("tr").dataset;
      const room = Math.max((Number(b) - Number(a)) * 2, 1);
      show(Number(a) - room, Number(b) + room);
      plot.scrollIntoView({ block: "center" });
      plot.focus({ preventScroll: true });
    },
  };
  const keys = { "+": "in", "=": "in", "-": "out", ArrowLeft: "left", ArrowRight: "right", 0: "all", Home: "all" };

  root.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    if (button.dataset.do) deeds[button.dataset.do](button);
    if (button.dataset.fold) fold(button);
  });
  plot.addEventListener("keydown", (event) => {
    const deed = keys[event.key];
    if (!deed || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    deeds[deed]();
  });
  plot.addEventListener("wheel", (event) => {
    // Whoever only scrolls past wants to go on.
    if (document.activeElement !== plot && !event.ctrlKey) return;
    event.preventDefault();
    const box = plot.getBoundingClientRect();
    if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
      pan((event.deltaX || event.deltaY) / box.width);
    } else {
      zoom(Math.exp(event.deltaY * 0.002), from + (event.clientX - box.left) / box.width * (to - from));
    }
  }, { passive: false });
  plot.addEventListener("dblclick", (event) => {
    const box = plot.getBoundingClientRect();
    zoom(0.4, from + (event.clientX - box.left) / box.width * (to - from));
  });
  let held = null;
  plot.addEventListener("pointerdown", (event) => {
    held = { x: event.clientX, from, to };
    plot.setPointerCapture(event.pointerId);
    plot.classList.add("dragged");
  });
  plot.addEventListener("pointermove", (event) => {
    if (!held) return;
    const way = (held.x - event.clientX) / plot.getBoundingClientRect().width * (held.to - held.from);
    show(held.from + way, held.to + way);
  });
  for (const end of ["pointerup", "pointercancel"]) {
    plot.addEventListener(end, () => { held = null; plot.classList.remove("dragged"); });
  }

  function fold(button) {
    const open = button.getAttribute("aria-expanded") !== "true";
    button.setAttribute("aria-expanded", String(open));
    for (const label of root.querySelectorAll(".label")) {
      if (label.dataset.under === button.dataset.fold) label.hidden = !open;
    }
    let y = 0;
    for (const label of root.querySelectorAll(".label")) {
      const row = rows.querySelector(`g[data-row="${label.dataset.row}"]`);
      if (label.hidden) {
        row.setAttribute("display", "none");
      } else {
        row.removeAttribute("display");
        row.setAttribute("transform", `translate(0 ${y})`);
        y += height;
      }
    }
    rows.setAttribute("height", y);
  }

  // So many labels as there is room for, when there is less of it or more.
  new ResizeObserver(() => show(from, to)).observe(plot);
}
