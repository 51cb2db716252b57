"""The containers that nodes of kind are, stopped and started."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from e2e import timing
from e2e.cluster.caller import addresses_lock
from e2e.cluster.node import Node
from e2e.cluster.undo import Undo
from e2e.errors import CannotRunError
from e2e.provider.cache import only_one
from e2e.provider.command import CommandFailedError

# Few addresses are free between those of nodes.
MOST_PLACES = 16
# One line for each network: its name, and the container's addresses there.
NETWORKS = (
    "{{range $name, $its := .NetworkSettings.Networks}}"
    "{{$name}} {{$its.IPAddress}} {{$its.GlobalIPv6Address}}{{println}}{{end}}"
)


class Power:
    """Stops nodes and starts them again."""

    def __init__(self, undo: Undo) -> None:
        """Take what undoes what is done."""
        self._undo = undo

    @contextmanager
    def off(self, node: Node) -> Iterator[None]:
        """Let a node be off while the context lasts, from one moment to the next.

        Raises:
            CannotRunError: it has another address afterwards.
        """
        engine = self._undo.engine
        # Nobody may take its addresses meanwhile.
        with only_one(addresses_lock(), waiting=lambda: None, within=timing.COMMAND):
            before = self._networks(node)
            # Places are given free when the node has taken its own.
            with ExitStack() as places, self._undo.afterwards("start", node.name):
                engine.run("kill", node.name)
                self._hold_addresses(node, before, places)
                yield
            after = self._networks(node)
        if before != after:
            raise CannotRunError(
                f"{node} was given other addresses: {after} instead of {before}",
                "remove the cluster (make clean), and run this again",
            )

    def _hold_addresses(
        self, node: Node, networks: Sequence[Sequence[str]], places: ExitStack
    ) -> None:
        """Let a node that is off have its addresses when it starts; it would get any others."""
        engine = self._undo.engine
        for name, *addresses in networks:
            asked = [f"--ip{'6' if ':' in each else ''}={each}" for each in addresses]
            engine.run("network", "disconnect", name, node.name)
            try:
                engine.run("network", "connect", *asked, name, node.name)
            except CommandFailedError:
                # Docker takes no wishes in a network whose subnet it has picked itself.
                engine.run("network", "connect", name, node.name)
                self._take_all_before(node, name, set(addresses), places)

    def _take_all_before(
        self, node: Node, network: str, addresses: set[str], places: ExitStack
    ) -> None:
        """Take every free address before a node's own, which are the next to be given then."""
        engine = self._undo.engine
        image = engine.run("inspect", "--format", "{{.Image}}", node.name).strip()
        for number in range(MOST_PLACES):
            name = f"{node.name}-place-{number}"
            with ExitStack() as mine:
                mine.enter_context(self._undo.afterwards("rm", "--force", name))
                engine.run(
                    *("run", "--detach", f"--network={network}", f"--name={name}"),
                    *("--entrypoint=sleep", image, "infinity"),
                )
                if addresses & set(self._networks(name)[0]):
                    return
                places.push(mine.pop_all())

    def _networks(self, container: Node | str) -> list[list[str]]:
        said = self._undo.engine.run("inspect", "--format", NETWORKS, str(container))
        return [line.split() for line in said.splitlines() if line.strip()]

    @contextmanager
    def paused(self, node: Node) -> Iterator[None]:
        """Let no process of a node do anything while the context lasts; its kernel goes on."""
        with self._undo.afterwards("unpause", node.name):
            self._undo.engine.run("pause", node.name)
            yield
