"""The containers that nodes of kind are, stopped and started."""

from collections.abc import Iterator
from contextlib import contextmanager

from e2e import timing
from e2e.cluster.caller import addresses_lock
from e2e.cluster.node import Node
from e2e.cluster.undo import Undo
from e2e.errors import CannotRunError
from e2e.provider.cache import only_one

ADDRESSES = "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{.GlobalIPv6Address}} {{end}}"


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
        # A container loses its addresses when it ends; the engine gives it the same ones again if
        # nobody has taken them meanwhile.
        with only_one(addresses_lock(), waiting=lambda: None, within=timing.COMMAND):
            before = engine.run("inspect", "--format", ADDRESSES, node.name).split()
            with self._undo.afterwards("start", node.name):
                engine.run("kill", node.name)
                yield
            after = engine.run("inspect", "--format", ADDRESSES, node.name).split()
        if before != after:
            raise CannotRunError(
                f"{node} was given {' and '.join(after)} instead of {' and '.join(before)}",
                "run this again while nobody else starts containers on the network of the nodes",
            )

    @contextmanager
    def paused(self, node: Node) -> Iterator[None]:
        """Let no process of a node do anything while the context lasts; its kernel goes on."""
        with self._undo.afterwards("unpause", node.name):
            self._undo.engine.run("pause", node.name)
            yield
