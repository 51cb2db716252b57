"""Changes what was prepared, one thing after another: some failures show only then.

After each change every flow is asked, through every node, until it is as it has to be, and from
then on not one connection of a sample may go wrong.
"""

import secrets
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from e2e import timing
from e2e.check import Want
from e2e.check.table import as_want, assert_serves
from e2e.check.wrong import Wrong, WrongFlowsError
from e2e.cluster import workload as workloads
from e2e.cluster.api import ApiRefusedError
from e2e.cluster.echo import EVENLY, HTTP_PORT, ONE_A_NODE, ScaledEcho
from e2e.cluster.kube_proxy import KubeProxy
from e2e.cluster.node import Node
from e2e.cluster.service import Service
from e2e.cluster.workload import CLUSTER, FIXED, Workload, make_service
from e2e.errors import ProbeBrokenError, StopError
from e2e.fixtures.reasons import reasons_of
from e2e.probe import BLOCKED, Flow, Outside
from e2e.provider.interrupts import shielded
from e2e.provider.steps import Steps
from e2e.report.summary import WHY
from e2e.report.verdict import ChurnStep
from e2e.upgrade.expected import lacking, of_all, of_service
from e2e.upgrade.site import Site
from e2e.wait import WaitedInVainError

Table = dict[Flow, Want]
UNDERGOES = {EVENLY: "the pods of Cluster Services", ONE_A_NODE: "the pods of the Local Service"}


@dataclass
class Churn:
    """What is done to a workload, and what came of it.

    Attributes:
        site: the cluster.
        workload: what was prepared.
        nodes: through which it is called.
        proxy_stays: why kube-proxy is left alone; nothing if it may be restarted.
        steps: where each step is reported.
        leave_out: IP families that cannot be called from here.
        done: what came of each.
    """

    site: Site
    workload: Workload
    nodes: tuple[Node, ...]
    proxy_stays: str
    steps: Steps
    outside: Outside = field(default_factory=Outside)
    leave_out: Collection[str] = ()
    done: list[ChurnStep] = field(default_factory=list)
    _explained: set[str] = field(default_factory=set)

    def run(self) -> list[ChurnStep]:
        """Do everything, also after something went wrong; who stops it finds all put back."""
        workloads.note_churn(self.workload, goes_on=True)
        try:
            if lost := lacking(self.workload, self.nodes):
                with self._step("an address of each IP family on every node"):
                    raise AssertionError("; ".join(lost))
            with self._step("everything as it was found"):
                self._assert(self._all())
            self._roll_out()
            self._scale()
            self._restart_proxies()
            self._new_service()
            self._edit()
            self._make_again()
            with self._step("everything once more"):
                self._assert(self._all())
            workloads.note_churn(self.workload, goes_on=False)
        except BaseException:
            with shielded(self.steps.say):
                workloads.put_back(self.workload)
            raise
        return self.done

    def _roll_out(self) -> None:
        for spread, group in self.workload.groups.items():
            with self._step(f"{UNDERGOES[spread]} replaced by a rollout"):
                group.roll_out()
                self._assert(self._all())

    def _scale(self) -> None:
        for spread, group in self.workload.groups.items():
            count = len(group.pods)
            with self._step(f"{UNDERGOES[spread]} scaled to zero"):
                group.scale(0)
                # Where nobody is left, nobody may answer; the other Services still do.
                self._assert(self._all())
            with self._step(f"{UNDERGOES[spread]} scaled back"):
                group.scale(count)
                self._assert(self._all())

    def _restart_proxies(self) -> None:
        name = "kube-proxy restarted on every node"
        if self.proxy_stays:
            self.done.append(ChurnStep(name=name, ended="left out", said=self.proxy_stays))
            return
        with self._step(name):
            KubeProxy(self.site.api, {}, None).restart(*self.nodes)
            self._assert(self._all())

    def _new_service(self) -> None:
        """Take a Service from its creation to its end, with the edits that move its rules."""
        name = f"new-{secrets.token_hex(3)}"
        steps = (
            "the policy of the new Service changed to Local",
            "its policy changed back to Cluster",
            "its node port given back, and another one picked",
            "its selector changed to other pods",
            "the new Service deleted",
        )
        to_local, to_cluster, other_number, other_pods, deleted = steps
        dual = len(self.workload.services[CLUSTER].families) > 1
        with self._step("a new Service"):
            service = make_service(self.workload, name, dual=dual, like=CLUSTER)
            self._assert(self._of(service))
        stored = self.site.api.find("Service", name, self.workload.namespace)
        if stored["kind"] != "Service":
            said = "there is no new Service"
            self.done += [ChurnStep(name=each, ended="left out", said=said) for each in steps]
            return
        service = Service(self.site.api, self.workload.evenly, stored)
        with self._step(to_local):
            service.change(externalTrafficPolicy="Local")
            self._assert(self._of(service))
        with self._step(to_cluster):
            service.change(externalTrafficPolicy="Cluster")
            self._assert(self._of(service))
        with self._step(other_number):
            self._take_another_number(service)
        with self._step(other_pods):
            self._select(service, self.workload.one_a_node)
            self._assert(self._of(service))
        with self._step(deleted):
            closed = self._of(service)
            service.remove()
            self._assert(self._nobody(closed) | self._of_one_that_stays())

    def _take_another_number(self, service: Service) -> None:
        before = self._of(service)
        service.change(type="ClusterIP")
        service.change(type="NodePort", ports=[{"port": 80, "targetPort": HTTP_PORT}])
        after = self._of(service)
        again = {str(flow) for flow in after}
        gone = {flow: want for flow, want in before.items() if str(flow) not in again}
        self._assert(after | self._nobody(gone))

    def _select(self, service: Service, group: ScaledEcho) -> None:
        other = dict.fromkeys(service.stored["spec"]["selector"])
        service.change(selector=other | group.labels)
        service.owner = group

    def _edit(self) -> None:
        service = self.workload.services[CLUSTER]
        number = service.node_port
        with self._step("a watched Service edited"):
            service.change(externalTrafficPolicy="Local", sessionAffinity="ClientIP")
            self._assert(self._of(service))
        with self._step("a watched Service edited back"):
            service.change(externalTrafficPolicy="Cluster", sessionAffinity="None")
            self._assert(self._of(service))
            _demand_number(service, number)

    def _make_again(self) -> None:
        service = self.workload.services[FIXED]
        number, dual = service.node_port, len(service.families) > 1
        with self._step("a watched Service deleted"):
            closed = self._of(service)
            service.remove()
            self._assert(self._nobody(closed) | self._of_one_that_stays())
        with self._step("and made again with its number"):
            made = make_service(self.workload, FIXED, dual=dual, number=number, again=True)
            self.workload.services[FIXED] = made
            self._assert(self._of(made))

    def _assert(self, table: Table) -> None:
        wrong = any(step.ended == "failed" for step in self.done)
        within = timing.SETTLE_AGAIN_WITHIN if wrong else timing.SETTLE_WITHIN
        assert_serves(table, within=within)

    def _all(self) -> Table:
        return of_all(self.workload, self.nodes, self.outside, leave_out=self.leave_out)

    def _of(self, service: Service) -> Table:
        return of_service(service, self.nodes, self.outside, leave_out=self.leave_out)

    def _of_one_that_stays(self) -> Table:
        """So that a dead cluster cannot pass for one in which a Service is gone."""
        return self._of(self.workload.services[CLUSTER])

    @staticmethod
    def _nobody(table: Table) -> Table:
        return dict.fromkeys(table, as_want(BLOCKED))

    def _why(self, wrong: Sequence[Wrong]) -> list[str]:
        """Why flows are wrong, unless that was found out of their nodes already."""
        new = [each for each in wrong if each.flow.target.address not in self._explained]
        self._explained |= {each.flow.target.address for each in new}
        return reasons_of(self.site.scene(self.nodes), new)[1] if new else []

    @contextmanager
    def _step(self, name: str) -> Iterator[None]:
        """Note how a step ended, and go on."""
        began = time.monotonic()
        ended, said = "held", ""
        with self.steps.step("churn", name) as step:
            try:
                yield
            except WaitedInVainError as error:
                ended, said = "broken", str(error)
            except WrongFlowsError as error:
                ended, said = "failed", str(error)
                why = self._why(error.wrong)
                said += "".join(f"\n{WHY}{line}" for line in why)
            except AssertionError as error:
                ended, said = "failed", str(error)
            except (StopError, ApiRefusedError, ProbeBrokenError) as error:
                ended, said = "broken", str(error)
            if ended != "held":
                step.ended, step.said = "failed", said.partition("\n")[0]
        self.done.append(
            ChurnStep.model_validate(
                {"name": name, "ended": ended, "said": said, "seconds": time.monotonic() - began}
            )
        )


def _demand_number(service: Service, number: int) -> None:
    """A Service that is edited keeps its node port."""
    has = service.node_port
    assert has == number, f"the Service {service.name} had the node port {number}, and now {has}"


def churn(
    site: Site,
    namespace: str,
    steps: Steps,
    *,
    proxy_stays: str,
    leave_out: Collection[str] = (),
) -> list[ChurnStep]:
    """Find what was prepared, and churn it; what cannot be found is a step that is broken."""
    began = time.monotonic()
    try:
        nodes = site.nodes()
        workload = workloads.find(site.api, namespace)
        missing = set(workloads.SPECS) - workload.services.keys()
    except (StopError, ApiRefusedError, WaitedInVainError) as error:
        took = time.monotonic() - began
        name = "finding what was prepared"
        return [ChurnStep(name=name, ended="broken", said=str(error), seconds=took)]
    if missing:
        said = f"Services that were prepared are gone: {', '.join(sorted(missing))}"
        return [ChurnStep(name="finding what was prepared", ended="failed", said=said)]
    return Churn(site, workload, nodes, proxy_stays, steps, leave_out=leave_out).run()
