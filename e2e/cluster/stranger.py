"""Who answers at a number that is also a node port, and is no pod."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from e2e.probe import Flow, Target, Vantage


@dataclass(frozen=True)
class Stranger:
    """A program that answers with a name of its own.

    Attributes:
        name: what it says.
        port: where it listens.
        addresses: likewise, by IP family; nothing where it listens at every address of a node.
    """

    name: str
    port: int
    addresses: Mapping[str, str] = field(default_factory=dict)

    def owns(self, echo: str) -> bool:
        """Whether it is who answered."""
        return echo == self.name

    def whereabouts(self, echo: str) -> str:
        """Nothing: it is on no node."""
        assert echo == self.name
        return ""

    def flows(self, caller: Vantage, *, families: Sequence[str]) -> list[Flow]:
        """The flows from a caller to its address of each IP family."""
        return [
            Flow(caller, Target(f"{self.name} ({family})", self.addresses[family], self.port, self))
            for family in families
        ]
