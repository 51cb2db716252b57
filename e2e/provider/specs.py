"""Kubernetes' own NodePort specs: compiled from its module, run on a cluster, and their results."""

import platform
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from e2e import timing
from e2e.errors import CannotRunError
from e2e.provider.cache import cache_folder, holder_of, only_one
from e2e.provider.command import CommandFailedError
from e2e.provider.go_modules import Programs, compile_programs
from e2e.provider.node_image.parts import kubernetes_version
from e2e.provider.node_image.store import Store
from e2e.provider.pins import Module
from e2e.provider.steps import Steps
from e2e.provider.streaming import stream

# All specs whose name speaks of NodePort, but for those of cloud load balancers, and those that
# upstream itself marks as unreliable, disruptive or for clusters with another configuration.
FOCUS = r"\[sig-network\].*[nN]odePort"
SKIP = r"LoadBalancer|\[Feature:|\[Flaky\]|\[Disruptive\]|\[Serial\]"
SELECTED = "[It] "


@dataclass(frozen=True)
class Result:
    """How one spec ended.

    Attributes:
        name: with all its marks, such as [sig-network] and [Conformance].
        status: passed, failed or skipped.
        seconds: how long it took.
        said: why it skipped itself, if it did.
    """

    name: str
    status: str
    seconds: float
    said: str = ""

    @property
    def plain_name(self) -> str:
        """Its name without its marks."""
        return without_marks(self.name)


def compile_specs(module: Module, steps: Steps) -> Path:
    """Give the compiled specs of a Kubernetes version.

    Raises:
        CannotRunError: they cannot be compiled.
    """
    programs = Programs(
        f"the specs of Kubernetes {module.version}",
        module,
        {"e2e.test": f"{module.path}/test/e2e"},
        kubernetes_version(module.version),
        is_test=True,
    )
    store = Store(cache_folder() / "specs")
    lock = store.folder / "lock"
    recipe = {"machine": platform.machine(), **programs.recipe()}
    with (
        steps.step("specs", "they are compiled from Kubernetes' source") as step,
        only_one(
            lock,
            waiting=lambda: step.progress(f"{holder_of(lock)} compiles them; waiting for it"),
            within=timing.BUILD_LOCK_WITHIN,
        ),
    ):
        if store.has("specs", recipe):
            step.skip(f"those of {module.version} are there already")
        else:
            step.done(f"compiled those of {module.version}")
        kept = store.keep(
            "specs",
            recipe,
            lambda made, scratch: compile_programs(
                programs, target=made, work=scratch, progress=step.progress
            ),
        )
    return kept / "e2e.test"


def run_specs(
    program: Path,
    kubeconfig: Path,
    out: Path,
    *,
    progress: Callable[[str], None],
    names: Collection[str] = (),
    within: float | None = None,
    started: Callable[["subprocess.Popen[bytes]"], None] = lambda _: None,
) -> list[Result]:
    """Run NodePort specs one after another; those that fail are results, not errors.

    Args:
        program: the compiled specs.
        kubeconfig: of the cluster.
        out: a folder for their report and log; emptied before.
        progress: gets the name of each spec as it begins.
        names: plain names of the specs to run; all by default.
        within: seconds after which a spec that still runs has failed.
        started: gets their process when it has begun.

    Raises:
        CannotRunError: they did not run at all; the log is in `out`.
    """
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)

    def on_line(line: str) -> None:
        if match := re.search(r"\[sig-network\] (.*)$", line):
            progress(without_marks(match.group(1)))

    failure = None
    # Each kubectl that they run leaves a folder where it may.
    with TemporaryDirectory(prefix="nodeport-e2e-specs-") as scratch:
        try:
            stream(
                [
                    *(str(program), f"--kubeconfig={kubeconfig}", "--provider=skeleton"),
                    *(f"--ginkgo.focus={focus_on(names)}", f"--ginkgo.skip={SKIP}"),
                    *("--ginkgo.no-color", "--ginkgo.v", f"--report-dir={out}"),
                    *([f"--ginkgo.timeout={within:g}s"] if within else []),
                ],
                on_line,
                env={"TMPDIR": scratch},
                log=out / "specs.log",
                timeout=timing.SPECS_WITHIN,
                started=started,
            )
        except CommandFailedError as error:
            failure = error
    results = read_results(out)
    if not results:
        raise failure or CannotRunError(f"no spec matched; see {out / 'specs.log'}")
    return results


def without_marks(name: str) -> str:
    """The name of a spec without its marks, which differ from version to version."""
    return " ".join(re.sub(r"\[[\w:, -]+\]", "", name).split())


def focus_on(names: Collection[str]) -> str:
    """The pattern, as Go reads it, of the specs with these plain names; of all without any."""
    # re.escape would escape spaces too, and Go knows no such escape.
    exact = [re.sub(r"([.+*?()|\[\]{}^$\\])", r"\\\1", name) for name in names]
    return rf"\[sig-network\] ({'|'.join(exact)})( \[|$)" if exact else FOCUS


def read_results(report: Path) -> list[Result]:
    """Read the JUnit files of a run; specs that were not selected are left out."""
    found = []
    for file in sorted(report.glob("junit*.xml")):
        # The specs wrote this file a moment ago.
        for case in ET.parse(file).iter("testcase"):  # noqa: S314
            name, status = case.get("name", ""), case.get("status", "")
            skipped = case.find("skipped")
            # A spec that skips itself says why; one that was not selected does not.
            said = "" if skipped is None else skipped.get("message", "").removeprefix("skipped")
            said = said.strip(" -")
            if name.startswith(SELECTED) and (skipped is None or said):
                seconds = float(case.get("time", 0))
                found.append(Result(name.removeprefix(SELECTED), status, seconds, said))
    return found
