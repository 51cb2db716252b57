"""Which clause noticed which fault, as data: faults.json, from which docs/faults.md is made."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Literal

from e2e.plain import count_of
from e2e.report.verdict import Part, read_part

MATRIX = "faults.json"
Ending = Literal["held", "failed", "broken", "skipped"]
SpecEnding = Literal["passed", "failed", "skipped"]


class Trial(Part):
    """One fault on one lane, and what noticed it.

    Attributes:
        fault: its name.
        lane: the configuration of the cluster.
        ended: detected if every clause that had to notice it failed; partly if only some did, or
            one could not be judged; missed if none did; error if the fault was not in force, or
            could not be made or repaired, so that nothing is known.
        said: of an error, what it was.
        node: on which it was; nothing if on more than one.
        noticed: how each clause ended that had to notice it.
        also: how each ended that might notice it.
        spared: how each ended that had not to.
        specs: how each of Kubernetes' own NodePort specs ended that passes when nothing is broken;
            nothing if they were not asked.
        named: whether those that failed named that node and no other; null if on more than one, or
            nothing failed.
        explained: whether a printed reason was the right one; null if nothing noticed it.
        why: the printed reasons, each once.
        seconds: how long it took, from its making to its repair.
    """

    fault: str
    lane: str
    ended: Literal["detected", "partly", "missed", "error"]
    said: str = ""
    node: str = ""
    noticed: Mapping[str, Ending] = {}
    also: Mapping[str, Ending] = {}
    spared: Mapping[str, Ending] = {}
    specs: Mapping[str, SpecEnding] = {}
    named: bool | None = None
    explained: bool | None = None
    why: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def fell(self) -> list[str]:
        """The clauses that noticed what they should not have."""
        return [clause for clause, ended in self.spared.items() if ended in ("failed", "broken")]

    @property
    def unjudged(self) -> list[str]:
        """The clauses that had to notice it, and could not be judged."""
        return [clause for clause, ended in self.noticed.items() if ended == "broken"]

    @property
    def proved(self) -> list[str]:
        """The clauses that were seen to fail, whether they had to or not."""
        if self.ended == "error":
            return []
        every = {**self.noticed, **self.also, **self.spared}
        return [clause for clause, ended in every.items() if ended == "failed"]

    @property
    def noticed_by_specs(self) -> list[str]:
        """Kubernetes' own specs that failed."""
        return [spec for spec, ended in self.specs.items() if ended == "failed"]

    @property
    def silent(self) -> list[str]:
        """The clauses that did not notice what they should have."""
        return [clause for clause, ended in self.noticed.items() if ended in ("held", "skipped")]


class Matrix(Part):
    """All faults of a run.

    Attributes:
        format: of this file.
        began: when.
        seconds: how long it took.
        trials: one for each fault and lane.
        untried: the names of the faults that were chosen, and not tried by then.
    """

    format: Literal[1] = 1
    began: datetime
    seconds: float
    trials: tuple[Trial, ...]
    untried: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """0 if every fault was detected, 1 if one was not, 2 if that is not known of one."""
        ends = {trial.ended for trial in self.trials}
        if "error" in ends or not ends or self.untried:
            return 2
        return 0 if ends == {"detected"} else 1

    @property
    def counted(self) -> str:
        """How many faults ended how, and how many were not tried, in words."""
        left = f"; {len(self.untried)} not tried" if self.untried else ""
        return f"{counted(self.trials)}{left}"

    def save(self, folder: Path) -> None:
        """Write it into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MATRIX).write_text(self.model_dump_json(indent=1) + "\n")

    @classmethod
    def load(cls, file: Path) -> "Matrix":
        """Read it from a file.

        Raises:
            UsageError: it cannot be read, or is no matrix of this format.
        """
        return read_part(cls, file, is_not="holds no faults")


def counted(trials: Iterable[Trial]) -> str:
    """How many faults ended how, how often the node was named, and the reason right, in words."""
    every = list(trials)
    ends = {
        end: sum(trial.ended == end for trial in every)
        for end in ("detected", "partly", "missed", "error")
    }
    named = [trial.named for trial in every if trial.named is not None]
    explained = [trial.explained for trial in every if trial.explained is not None]
    words = [
        count_of(len(every), "fault"),
        *(f"{count} {end}" for end, count in ends.items() if count),
    ]
    return (
        f"{', '.join(words)}; the node named in {sum(named)} of {len(named)}, "
        f"the reason right in {sum(explained)} of {len(explained)}"
    )
