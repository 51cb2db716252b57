"""Kubernetes' own NodePort specs, asked of a cluster that is broken, beside the clauses."""

import subprocess
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from e2e import timing
from e2e.cluster.api import Api
from e2e.cluster.leftovers import without_specs
from e2e.errors import CannotRunError
from e2e.provider.command import CommandFailedError, kill_group
from e2e.provider.pins import read_pins
from e2e.provider.specs import compile_specs, run_specs
from e2e.provider.steps import Steps
from e2e.report.faults import Fault
from e2e.report.matrix import SpecEnding

# Nine of 17; docs/faults.md says which are left out, and why.
NAMES = tuple(
    f"{topic} {says}"
    for topic, every in {
        "Services should": (
            "be able to create a functioning NodePort service",
            "be able to change the type from ExternalName to NodePort",
            "release NodePorts on delete",
            "have session affinity work for NodePort service",
            "be able to switch session affinity for NodePort service",
            "support externalTrafficPolicy=Local for type=NodePort",
        ),
        "Conntrack should be able to": (
            "preserve UDP traffic when server pod cycles for a NodePort service",
            "cleanup conntrack entries when UDP service target port changes for a NodePort service",
        ),
        "Networking Granular Checks: Services should": (
            "support basic nodePort: udp functionality",
        ),
    }.items()
    for says in every
)


# What is said by a suite that does not begin, as a node or a pod of kube-system is not Ready.
BEFORE = "BeforeSuite"


@dataclass(frozen=True)
class Specs:
    """The specs of a cluster's version.

    Attributes:
        program: compiled.
        api: the cluster's API server.
        at_once: so many of them run at the same time.
    """

    program: Path
    api: Api
    at_once: int

    @classmethod
    def of(cls, version: str, api: Api, at_once: int, steps: Steps) -> "Specs":
        """Compile them, if that was not done yet.

        Raises:
            CannotRunError: they cannot be compiled, or the version is unknown.
        """
        release = read_pins().releases.get(version)
        if release is None:
            raise CannotRunError(
                f"the specs of Kubernetes {version} are unknown here", "choose another K8S"
            )
        return cls(compile_specs(release.kubernetes, steps), api, at_once)

    def run(self, out: Path, names: Sequence[str] = NAMES) -> Mapping[str, SpecEnding]:
        """How each of these ended; each is a process of its own.

        All end at once where somebody stops this one, or one of them did not run.

        Raises:
            CannotRunError: one did not run at all.
        """
        running: list[subprocess.Popen[bytes]] = []
        stopped = threading.Event()

        def started(process: "subprocess.Popen[bytes]") -> None:
            running.append(process)
            # It may begin while the others are ended.
            if stopped.is_set():
                kill_group(process)

        def ended(numbered: tuple[int, str]) -> SpecEnding:
            number, name = numbered
            try:
                results = run_specs(
                    self.program,
                    Path(self.api.kubeconfig),
                    out / f"{number:02}",
                    progress=lambda _: None,
                    names=[name],
                    within=timing.SPEC_BROKEN_WITHIN,
                    started=started,
                )
            except CommandFailedError as error:
                if BEFORE in error.said:
                    return "failed"
                raise
            statuses = {result.status for result in results}
            known: dict[str, SpecEnding] = {"passed": "passed", "skipped": "skipped"}
            return known.get(statuses.pop(), "failed") if len(statuses) == 1 else "failed"

        with without_specs(self.api), ThreadPoolExecutor(self.at_once) as pool:
            try:
                return dict(zip(names, pool.map(ended, enumerate(names)), strict=True))
            except BaseException:
                # What is broken stays so until they have ended, and they wait for minutes.
                stopped.set()
                for process in running:
                    kill_group(process)
                raise


def can_notice(fault: Fault, proxy: str) -> bool:
    """Whether specs could: not where it is made so that clauses alone can meet it."""
    way = fault.way(proxy)
    return way is not None and not way.for_clauses_alone
