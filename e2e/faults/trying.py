"""Breaks a cluster, asks who notices, repairs it, and sees that it is well, for one fault."""

import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from e2e import timing
from e2e.check import answered_by, assert_serves
from e2e.cluster.api import ApiRefusedError
from e2e.cluster.service import Service, manifest
from e2e.errors import CannotRunError, StopError
from e2e.faults.asking import Asking
from e2e.faults.judging import trial_of
from e2e.faults.making import FaultNotMadeError, Here, Made, made, signs
from e2e.faults.specs import Specs, can_notice
from e2e.fixtures.actors import await_shared
from e2e.probe import Outside
from e2e.provider import kind
from e2e.provider.interrupts import shielded
from e2e.report.clauses import contract
from e2e.report.faults import OF_API, OF_TRAFFIC, Fault, Way
from e2e.report.matrix import SpecEnding, Trial
from e2e.report.result import ClauseResult
from e2e.wait import WaitedInVainError

BASELINE = "baseline"
# What is said of the cluster to whoever else wants it.
BREAKS = "faults are tried on it"
SLOW = "slow"


@dataclass(frozen=True)
class Trials:
    """Tries faults on one cluster.

    Attributes:
        here: the cluster that is broken.
        cluster: the same, as kind knows it.
        asking: how clauses are asked.
        shared: the folder of the run.
        out: the folder of the results.
        known: clauses that are known to hold on this lane.
        trusting: whether these are not asked before.
        quick: whether those that may notice a fault are left out.
        specs: Kubernetes' own, if they are asked too.
        say: tells a person what is being done.
    """

    here: Here
    cluster: kind.Cluster
    asking: Asking
    shared: Path
    out: Path
    known: Set[str]
    trusting: bool
    quick: bool
    specs: Specs | None
    say: Callable[[str], None]

    def try_out(
        self, fault: Fault, healthy: Mapping[str, ClauseResult], specs: Sequence[str] = ()
    ) -> Trial:
        """Try one fault.

        Args:
            fault: what is done.
            healthy: how each clause ended when nothing was broken.
            specs: those that passed then.

        Raises:
            NotWellError: the cluster is not well afterwards; it has what is known of the trial.
        """
        began = time.monotonic()
        lane, folder = str(self.asking.lane), self.out / "faults" / fault.name
        way = fault.way(self.asking.lane.proxy)
        assert way
        node = self.here.of(fault.where)[0].name if fault.is_local else ""
        holding = self.holding(healthy)
        spared = [c for c in spared_by(fault) if c in holding]
        nodes = [each.name for each in self.here.nodes]
        not_held = [c for c in fault.clauses if c not in holding]
        if not_held:
            return _error(
                fault, lane, f"did not hold when nothing was broken: {', '.join(not_held)}", began
            )
        trial = Trial(fault=fault.name, lane=lane, ended="error")
        asks_specs = can_notice(fault, self.asking.lane.proxy) and self.specs is not None
        try:
            with self._noted(fault, way), made(fault, way, self.here, self.say) as it:
                asked = (*fault.clauses, *self.also_of(fault, healthy), *spared)
                within = timing.SETTLE_BROKEN_WITHIN
                ended = self.asking.ask(asked, folder, within=within, through=it.through)
                it.demand()
                trial = trial_of(fault, lane, ended, spared=spared, node=node, nodes=nodes)
                if asks_specs:
                    of_specs = self._ask_specs(fault, folder, specs, it)
                    trial = trial.model_copy(update={"specs": of_specs})
        except NotWellError as error:
            said = f"it was not repaired: {error.what}"
            took = round(time.monotonic() - began, 1)
            error.trial = trial.model_copy(update={"ended": "error", "said": said, "seconds": took})
            raise
        except FaultNotMadeError as error:
            trial = _error(fault, lane, error.what, began)
        except StopError as error:
            trial = _error(fault, lane, f"no result: {error.what}", began)
        is_as_meant = trial.ended == "detected" and not trial.fell
        is_told_right = False not in (trial.named, trial.explained)
        if is_as_meant and is_told_right and (trial.specs or not asks_specs):
            shutil.rmtree(folder, ignore_errors=True)
        return trial.model_copy(update={"seconds": round(time.monotonic() - began, 1)})

    def _ask_specs(
        self, fault: Fault, folder: Path, names: Sequence[str], it: Made
    ) -> Mapping[str, SpecEnding]:
        """How specs end while it is in force; if that is not known, a person is told why."""
        assert self.specs is not None
        try:
            ended = self.specs.run(folder / "specs", names)
            it.demand()
        except (StopError, ApiRefusedError) as error:
            self.say(f"{fault.name}: nothing is known of the specs: {error}")
            return {}
        return ended

    def baseline_of(self, fault: Fault) -> list[str]:
        """The clauses to ask before, when nothing is broken.

        Those that may notice a fault and are slow are not, so that they have to be known to hold.
        """
        slow = {clause.id for clause in contract() if SLOW in clause.families}
        more = [] if self.quick else [c for c in fault.also if c not in self.known | slow]
        every = [*fault.clauses, *more, *spared_by(fault)]
        return [c for c in every if not (self.trusting and c in self.known)]

    def holding(self, healthy: Mapping[str, ClauseResult]) -> Set[str]:
        """The clauses that hold when nothing is broken: by the baseline, or as is known."""
        held = {clause for clause, found in healthy.items() if found.ended == "held"}
        return held | (self.known - healthy.keys() if self.trusting else set())

    def also_of(self, fault: Fault, healthy: Mapping[str, ClauseResult]) -> list[str]:
        """The clauses that may notice a fault, and hold when nothing is broken."""
        hold = self.holding(healthy) | (self.known - healthy.keys())
        return [] if self.quick else [c for c in fault.also if c in hold]

    @contextmanager
    def _noted(self, fault: Fault, way: Way) -> Iterator[None]:
        """Let nobody take the cluster for one that is well until it is, after the fault."""
        kind.note_change(self.cluster.name, f"the fault {fault.name}")
        try:
            yield
        finally:
            with shielded(self.say):
                self.demand_health(fault, way)

    def demand_health(self, fault: Fault, way: Way) -> None:
        """Go on only if the fault is gone, the cluster well, and each node serves a new Service.

        Raises:
            NotWellError: it does not.
        """
        try:
            self.cluster.wait_until_well(timing.CLUSTER_RECOVER_WITHIN, self.say)
            for script, node, place in signs(fault, way, self.here):
                self.here.await_holds(script, node, on=place, no_longer=True)
            await_shared(self.here.api, self.shared)
            self._demand_service()
        except (WaitedInVainError, AssertionError) as error:
            raise NotWellError(
                f"the cluster is not well after the repair of {fault.name}: {error}", "make clean"
            ) from error
        kind.note_change(self.cluster.name, BREAKS)

    def _demand_service(self) -> None:
        echo, api = self.here.standing, self.here.api
        name = f"healthy-{time.monotonic_ns() % 10**9}"
        spec = {"ports": [{"port": 80, "targetPort": 8080}]}
        service = Service(api, echo, api.create(manifest(name, echo.namespace, echo.labels, spec)))
        try:
            flows = service.flows(Outside(), via=self.here.nodes)
            wanted = dict.fromkeys(flows, answered_by(*echo.pods))
            assert_serves(wanted, within=timing.FOLLOWED_WITHIN)
        finally:
            api.delete("Service", name, echo.namespace)


class NotWellError(CannotRunError):
    """A repair did not help, so that nothing more can be tried on this cluster.

    Attributes:
        trial: what became of the fault by then, as `try_out` says it.
    """

    trial: Trial


def spared_by(fault: Fault) -> Sequence[str]:
    """The clauses that must not notice a fault: its own, else those of the other side."""
    usual = OF_TRAFFIC if fault.where == "cluster" else OF_API
    return fault.spares or [clause for clause in usual if clause not in fault.clauses]


def _error(fault: Fault, lane: str, said: str, began: float) -> Trial:
    return Trial(
        fault=fault.name, lane=lane, ended="error", said=said, seconds=time.monotonic() - began
    )
