"use strict";
{
  const form = document.querySelector(".filter");
  const clauses = Array.from(document.querySelectorAll(".clause"),
    (one) => ({ one, text: one.textContent.toLowerCase(), ended: one.dataset.ended,
      families: one.dataset.families.split(" ") }));
  const topics = Array.from(document.querySelectorAll(".topic"));
  const told = form.querySelector("output");
  const fields = ["q", "ended", "family"].map((name) => form.elements[name]);

  function filter() {
    const [q, ended, family] = fields.map((field) => field.value);
    const words = q.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const { one, text, ...has } of clauses) {
      one.hidden = !(words.every((word) => text.includes(word))
        && (!ended || ended.split(" ").includes(has.ended))
        && (!family || has.families.includes(family)));
      shown += one.hidden ? 0 : 1;
    }
    for (const topic of topics) topic.hidden = !topic.querySelector(".clause:not([hidden])");
    told.textContent = `${shown} of ${clauses.length} clauses`;
  }

  // What is shown has an address, so that it can be sent to somebody.
  function note() {
    const asked = new URLSearchParams();
    for (const field of fields) if (field.value) asked.set(field.name, field.value);
    history.replaceState(null, "", `#?${asked}`);
  }

  function open(place) {
    for (let one = place; one; one = one.parentElement) if (one.tagName === "DETAILS") one.open = true;
    const within = place.querySelector(":scope > details");
    if (within) within.open = true;
    place.scrollIntoView();
  }

  function go() {
    const raw = location.hash.slice(1);
    if (raw.startsWith("?")) {
      const asked = new URLSearchParams(raw);
      for (const field of fields) field.value = asked.get(field.name) || "";
      filter();
      document.getElementById("clauses").scrollIntoView();
      return;
    }
    let wanted = raw;
    try { wanted = decodeURIComponent(raw); } catch { /* no id of ours is written so */ }
    const place = wanted && document.getElementById(wanted);
    if (!place) return;
    if (place.closest(".topic")) {
      for (const field of fields) field.value = "";
      filter();
    }
    open(place);
  }

  form.hidden = false;
  form.addEventListener("input", () => { filter(); note(); });
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(() => { filter(); note(); }));
  window.addEventListener("hashchange", go);
  filter();
  go();
}
