"""The containers that nodes of kind are, stopped and started."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from e2e import timing
from e2e.cluster.caller import addresses_lock
from e2e.cluster.node import Node
from e2e.cluster.undo import Undo
from e2e.errors import CannotRunError
from e2e.provider.cache import only_one

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
            with self._undo.afterwards("start", node.name):
                engine.run("kill", node.name)
                self._hold_addresses(node, before)
                yield
            after = self._networks(node)
        if before != after:
            raise CannotRunError(
                f"{node} was given other addresses: {after} instead of {before}",
                "remove the cluster (make clean), and run this again",
            )

    def _hold_addresses(self, node: Node, networks: Sequence[Sequence[str]]) -> None:
        """Let a node that is off ask for its addresses when it starts; it would get any others."""
        for name, *addresses in networks:
            asked = [f"--ip{'6' if ':' in each else ''}={each}" for each in addresses]
            self._undo.engine.run("network", "disconnect", name, node.name)
            self._undo.engine.run("network", "connect", *asked, name, node.name)

    def _networks(self, node: Node) -> list[list[str]]:
        said = self._undo.engine.run("inspect", "--format", NETWORKS, node.name)
        return [line.split() for line in said.splitlines() if line.strip()]

    @contextmanager
    def paused(self, node: Node) -> Iterator[None]:
        """Let no process of a node do anything while the context lasts; its kernel goes on."""
        with self._undo.afterwards("unpause", node.name):
            self._undo.engine.run("pause", node.name)
            yield
