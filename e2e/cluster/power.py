"""The containers that nodes of kind are, stopped and started."""

from collections.abc import Iterator
from contextlib import contextmanager

from e2e.cluster.node import Node
from e2e.cluster.undo import Undo


class Power:
    """Stops nodes and starts them again."""

    def __init__(self, undo: Undo) -> None:
        """Take what undoes what is done."""
        self._undo = undo

    @contextmanager
    def off(self, node: Node) -> Iterator[None]:
        """Let a node be off while the context lasts, from one moment to the next."""
        with self._undo.afterwards("start", node.name):
            self._undo.engine.run("kill", node.name)
            yield

    @contextmanager
    def paused(self, node: Node) -> Iterator[None]:
        """Let no process of a node do anything while the context lasts; its kernel goes on."""
        with self._undo.afterwards("unpause", node.name):
            self._undo.engine.run("pause", node.name)
            yield
