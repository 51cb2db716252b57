"""The command `nodeport-e2e disturb`, and all that it knows to do."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from e2e.errors import UsageError
from e2e.options import option, together
from e2e.provider import kind, node_image
from e2e.provider.engine import Engine
from e2e.provider.lane import PROXIES
from e2e.provider.node_image import NodeImage
from e2e.provider.steps import Steps
from e2e.upgrade.commands import of_upgrades, site_of
from e2e.upgrade.disturb import components, kubeadm, nodes
from e2e.upgrade.disturb.ours import Ours, ours
from e2e.upgrade.plan import load_plan


@dataclass(frozen=True)
class Wishes:
    """How it is done.

    Attributes:
        to: the version, or the mode of kube-proxy, that comes next.
        node: the node that it is done to; the last worker by default.
        drain: whether nodes are drained first.
        roll_back: whether one worker gets its old kubelet back in the end.
        hasty: whether facts are not waited for, as by scripts that believe in Ready.
        folder: with the plan of what is watched.
    """

    to: str = ""
    node: str = ""
    drain: bool = False
    roll_back: bool = False
    hasty: bool = False
    folder: Path = Path()


@dataclass(frozen=True)
class Disturbance:
    """Something that is done to a cluster.

    Attributes:
        what: in words.
        do: does it.
        takes: the wishes that it knows.
        is_upgrade: whether it goes to another version.
        lasts: whether the cluster is another one afterwards, though all went well.
    """

    what: str
    do: Callable[[Ours, Wishes, Sequence[NodeImage]], None]
    takes: frozenset[str] = frozenset()
    is_upgrade: bool = False
    lasts: bool = False


def _upgrade(here: Ours, wishes: Wishes, images: Sequence[NodeImage]) -> None:
    if wishes.roll_back:
        _worker(here, wishes)
    how = kubeadm.Wishes(drain=wishes.drain, roll_back=wishes.roll_back)
    kubeadm.upgrade(here, images, how)


def _skew(here: Ours, _: Wishes, images: Sequence[NodeImage]) -> None:
    kubeadm.upgrade(here, images, kubeadm.Wishes(control_plane_only=True))


def _roll_out_echoes(here: Ours, wishes: Wishes, _: Sequence[NodeImage]) -> None:
    components.roll_out_echoes(here, load_plan(wishes.folder).namespace)


def _worker(here: Ours, wishes: Wishes) -> str:
    name = wishes.node or next(reversed(here.workers), "")
    if name not in here.workers:
        raise UsageError(
            f"{name} is no worker of {here.name}" if name else f"{here.name} has no worker",
            f"it has: {', '.join(here.workers)}" if here.workers else "take a larger SHAPE=",
        )
    return name


def _restart_node(here: Ours, wishes: Wishes, _: Sequence[NodeImage]) -> None:
    nodes.switch_off_and_on(here, _worker(here, wishes), drain=wishes.drain)


def _replace_node(here: Ours, wishes: Wishes, _: Sequence[NodeImage]) -> None:
    nodes.replace(here, _worker(here, wishes), drain=wishes.drain)


OF_NODES = frozenset({"node", "drain"})
DISTURBANCES: Mapping[str, Disturbance] = {
    "upgrade": Disturbance(
        "an upgrade in place with kubeadm, node by node", _upgrade,
        takes=frozenset({"to", "drain", "roll_back", "hasty"}), is_upgrade=True, lasts=True,
    ),
    "skew": Disturbance(
        "an upgrade of the control plane alone", _skew,
        takes=frozenset({"to"}), is_upgrade=True, lasts=True,
    ),
    "migrate-proxy": Disturbance(
        "another mode of kube-proxy",
        lambda here, wishes, _: components.migrate_proxy(here, wishes.to),
        takes=frozenset({"to"}), lasts=True,
    ),
    "roll-out-proxy": Disturbance(
        "a rollout of kube-proxy", lambda here, *_: components.roll_out_proxy(here)
    ),
    "roll-out-echoes": Disturbance("rolling updates of the watched pods", _roll_out_echoes),
    "restart-api": Disturbance(
        "a restart of every API server", lambda here, *_: components.restart_api(here)
    ),
    "restart-node": Disturbance(
        "a node that is switched off and on again", _restart_node, takes=OF_NODES
    ),
    "replace-node": Disturbance(
        "a node that leaves, and a new one in its place", _replace_node, takes=OF_NODES
    ),
    "remove-dns": Disturbance(
        "no CoreDNS for a while", lambda here, *_: components.remove_dns(here)
    ),
}  # fmt: skip
# The mark lets click leave the lines as they are.
ALL = "\b\nNAME is one of:\n" + "\n".join(
    f"  {n:<16} {one.what}" for n, one in DISTURBANCES.items()
)


def described(name: str, before: str, wishes: Wishes) -> str:
    """What is done, in one line of a report.

    Args:
        name: of the disturbance.
        before: the version or the mode that is there.
        wishes: how it is done.
    """
    return "".join(
        (
            DISTURBANCES[name].what,
            f", {before} -> {wishes.to}" if wishes.to else "",
            f", {wishes.node}" if wishes.node else "",
            ", nodes are drained" if wishes.drain else "",
            ", one worker gets its kubelet of before back" if wishes.roll_back else "",
            ", in haste" if wishes.hasty else "",
        )
    )


def completed(name: str, wishes: Wishes, before: str) -> Wishes:
    """Name what comes next, if nobody did.

    Raises:
        UsageError: something does not go with this disturbance.
    """
    known = DISTURBANCES[name].takes
    for wish in ("to", "node", "drain", "roll_back", "hasty"):
        if getattr(wishes, wish) and wish not in known:
            named = f"--{wish.replace('_', '-')}"
            raise UsageError(f"{named} means nothing to {name}", "leave it out")
    to = wishes.to
    if DISTURBANCES[name].is_upgrade:
        to = to or node_image.DEFAULT
        kubeadm.way(before, to)
    elif name == "migrate-proxy":
        others = [mode for mode in PROXIES if mode != before]
        to = to or others[0]
        if to not in others:
            raise UsageError(
                f"kube-proxy cannot go from {before} to {to}", f"name {' or '.join(others)}"
            )
    return replace(wishes, to=to)


def images_for(
    name: str, before: str, to: str, engine: Engine, steps: Steps
) -> tuple[NodeImage, ...]:
    """The node images of all versions that an upgrade goes by; none for anything else.

    Raises:
        UsageError: there is no way to that version.
        CannotRunError: an image can neither be found nor made.
    """
    if not DISTURBANCES[name].is_upgrade:
        return ()
    return tuple(node_image.resolve(each, engine, steps) for each in kubeadm.way(before, to))


of_disturbances = together(
    click.option("--hasty", is_flag=True, help="Upgrade: wait for Ready alone between steps."),
    click.option("--roll-back", is_flag=True, help="Upgrade: one worker gets its kubelet back."),
    option("--drain", "DRAIN", is_flag=True, help="Drain nodes before anything is done to them."),
    option("--node", "NODE", default="", help="Which node; the last worker by default."),
    option("--to", "TO", default="", help="The version, or the mode of kube-proxy, to go to."),
    click.argument("name", type=click.Choice(list(DISTURBANCES)), metavar="NAME"),
)
"""The options that say how it is done."""


def wishes_of(asked: Mapping[str, Any]) -> Wishes:
    """What the options say."""
    return Wishes(
        to=asked["to"],
        node=asked["node"],
        drain=asked["drain"],
        roll_back=asked["roll_back"],
        hasty=asked["hasty"],
        folder=Path(asked["folder"]).absolute(),
    )


@click.command(epilog=ALL)
@of_disturbances
@of_upgrades
def disturb(name: str, **asked: Any) -> int:
    """Do something to a cluster that was made here, of which its users should not notice much.

    To be run under the watch: nodeport-e2e watch -- nodeport-e2e disturb roll-out-proxy. Each step
    waits for facts, and not for a time.
    """
    steps = Steps()
    with site_of(asked, steps) as site:
        here = ours(site, steps, hasty=asked["hasty"])
        before = components.mode_of(here) if name == "migrate-proxy" else here.api.version()
        wishes = completed(name, wishes_of(asked), before)
        images = images_for(name, before, wishes.to, here.engine, steps)
        with _noted(here, described(name, before, wishes), lasts=DISTURBANCES[name].lasts):
            DISTURBANCES[name].do(here, wishes, images)
    return 0


@contextmanager
def _noted(here: Ours, what: str, *, lasts: bool) -> Iterator[None]:
    """Let nobody take the cluster for one of its lane while it is changed, or if that lasts."""
    before = kind.changed(here.name)
    kind.note_change(here.name, what)
    yield
    if not lasts:
        kind.note_change(here.name, before)
