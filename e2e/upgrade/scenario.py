"""The command `nodeport-e2e scenario`: a cluster, prepared, disturbed under the watch, verified."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from e2e.cluster import leftovers
from e2e.errors import CannotRunError, RefusedError, StopError
from e2e.options import of_lane, of_making, option
from e2e.provider import kind, node_image
from e2e.provider.cache import ensure_room
from e2e.provider.command import own_program, run_to_its_end
from e2e.provider.engine import ensure_engine
from e2e.provider.interrupts import shielded
from e2e.provider.lane import Lane
from e2e.provider.ready import ready
from e2e.provider.steps import Steps
from e2e.report.clauses import choose
from e2e.report.outputs import of_cluster
from e2e.report.verdict import Verdict
from e2e.upgrade import prepare as preparing
from e2e.upgrade import verify as verifying
from e2e.upgrade.commands import judged_by, of_budgets, of_contract, site_of
from e2e.upgrade.disturb import kubeadm
from e2e.upgrade.disturb.command import (
    ALL,
    DISTURBANCES,
    Wishes,
    completed,
    described,
    images_for,
    of_disturbances,
    wishes_of,
)
from e2e.upgrade.plan import PLAN, load_plan
from e2e.upgrade.site import is_same

# Gigabytes of a record and the contract's evidence, twice.
ROOM = 0.5


@dataclass(frozen=True)
class Scenario:
    """What is done, where, and how it is judged.

    Attributes:
        name: of the disturbance.
        wishes: how it is done.
        lane: of the cluster.
        tools: make it.
        cluster: its name.
        keep: whether it stays.
        folder: of plan, record and report.
        judged: what is asked of it before and afterwards.
        steps: tell a person what is being done.
    """

    name: str
    wishes: Wishes
    lane: Lane
    tools: kind.Tools
    cluster: str
    keep: bool
    folder: Path
    judged: verifying.Wishes
    steps: Steps

    def play(self) -> int:
        """Do all of it; gives the exit code."""
        evidence = of_cluster(self.folder)
        with kind.lease(
            self.lane,
            self.tools,
            self.steps,
            name=self.cluster,
            keep=self.keep,
            evidence=evidence,
            breaks=f"it is disturbed ({self.told})",
        ) as cluster:
            where = {
                "kubeconfig": str(cluster.kubeconfig_path),
                "kube_context": f"kind-{self.cluster}",
                "cluster_name": "",
            }
            self._prepare(where)
            try:
                code = self._disturb(where)
                # Gone with the network of a node that was started again.
                cluster.end_packets_to_documentation(self.lane.family)
                verdict = self._verify(where)
            finally:
                self._remove(where)
            if not _is_as_before(verdict):
                kind.note_change(self.cluster, self.told)
        click.echo(verifying.told(verdict, self.folder))
        if code:
            click.echo(f"{self.told} did not come to its end (exit code {code}): see above")
        return verdict.exit_code or (CannotRunError.exit_code if code else 0)

    @property
    def told(self) -> str:
        """What is done, in one line."""
        before = self.lane.proxy if self.name == "migrate-proxy" else self.lane.version
        return described(self.name, before, self.wishes)

    def _prepare(self, where: Mapping[str, str]) -> None:
        with site_of(where, self.steps) as here:
            if not here.is_ours:
                raise RefusedError(
                    f"the cluster {self.cluster} was not made by us, so it is not disturbed",
                    "choose another --cluster-name",
                )
            if (self.folder / PLAN).exists():
                # An earlier run was killed; what it placed is in a cluster that may be gone.
                if is_same(here, load_plan(self.folder)):
                    preparing.remove(here, self.folder, self.steps)
                (self.folder / PLAN).unlink(missing_ok=True)
            preparing.prepare(
                *(here, self.folder, self.steps),
                contract=self.judged.contract,
                only=self.judged.only,
                processes=self.judged.processes,
            )

    def _disturb(self, where: Mapping[str, str]) -> int:
        """Let a watch of its own run the disturbance; gives the exit code of that."""
        found = [f"--{name.replace('_', '-')}={value}" for name, value in where.items()]
        wishes = self.wishes
        command = own_program("e2e.cli")
        how = [
            *(f"--{name}={value}" for name, value in (("to", wishes.to), ("node", wishes.node))),
            *(["--drain"] if wishes.drain else []),
            *(["--roll-back"] if wishes.roll_back else []),
            *(["--hasty"] if wishes.hasty else []),
        ]
        return run_to_its_end(
            [
                *(*command, "watch", f"--folder={self.folder}", *found[:2], "--plain"),
                *(f"--called={self.told}", "--"),
                *(*command, "disturb", self.name, f"--folder={self.folder}", *found, *how),
            ],
            self.steps.say,
        )

    def _verify(self, where: Mapping[str, str]) -> Verdict:
        with site_of(where, self.steps) as here:
            return verifying.verify(here, self.folder, self.steps, self.judged)

    def _remove(self, where: Mapping[str, str]) -> None:
        """Remove what was prepared, where the cluster may be kept; a ruin is made anew anyway."""
        record = kind.Record.read(self.cluster)
        if record and record.keep and (self.folder / PLAN).exists():
            with shielded(self.steps.say):
                try:
                    with site_of(where, self.steps) as here:
                        preparing.remove(here, self.folder, self.steps)
                except StopError as error:
                    self.steps.say(f"what was prepared stays in {self.cluster}: {error.what}")
        (self.folder / PLAN).unlink(missing_ok=True)


def _is_as_before(verdict: Verdict) -> bool:
    """Whether the cluster is what it was, whatever users noticed meanwhile."""
    wrong = verdict.failed_steps or verdict.broken_steps or verdict.changes.counting
    return not wrong and not verdict.changes.unknown


@click.command(epilog=ALL)
@of_disturbances
@of_contract
@option("--k8s", "K8S", default=None, help="Version of Kubernetes; of an upgrade, the first one.")
@of_lane
@of_making
@option("--folder", "FOLDER", default=None, help="Of plan, record and report; out/NAME by default.")
@of_budgets
@click.option("--no-churn", is_flag=True, help="Change nothing of what was prepared.")
def scenario(name: str, **asked: Any) -> int:
    """Make a cluster, prepare it, do something to it under the watch, and verify it.

    Exit codes: 0 all is as before and budgets are kept, 1 it is not, 2 that is not known.
    """
    choose(asked["only"], None, ours=False)
    judged = judged_by(asked)
    asked["folder"] = asked["folder"] or f"out/{name}"
    wishes = wishes_of(asked)
    version = asked["k8s"] or _first(name, wishes)
    lane = Lane(version, asked["proxy"], asked["family"], asked["shape"])
    wishes = completed(name, wishes, lane.proxy if name == "migrate-proxy" else lane.version)
    ensure_room(wishes.folder, gigabytes=ROOM, what="a scenario", variable="E2E_FOLDER")
    steps = Steps()
    engine = ensure_engine(steps)
    leftovers.undo_on_nodes(engine)
    lane, tools = ready(lane, engine, steps, asked["node_image"])
    # All that takes long is made before anything is disturbed.
    images_for(name, lane.version, wishes.to, engine, steps)
    return Scenario(
        name=name,
        wishes=wishes,
        lane=lane,
        tools=tools,
        cluster=asked["cluster_name"] or lane.cluster_name,
        keep=asked["keep"],
        folder=wishes.folder,
        judged=judged,
        steps=steps,
    ).play()


def _first(name: str, wishes: Wishes) -> str:
    """The version to begin with where none was named: an upgrade begins one minor version below."""
    if not DISTURBANCES[name].is_upgrade:
        return node_image.DEFAULT
    return kubeadm.below(wishes.to or node_image.DEFAULT)
