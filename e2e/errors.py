"""The known ways in which a run cannot go on. Each says what happened and what to do."""

BUSY = "this machine is too busy"


class StopError(Exception):
    """A known situation that ends the run; shown as one message, never as a stack trace.

    Args:
        what: what happened, on which node or object.
        do: what the reader can do about it.
    """

    exit_code = 2

    def __init__(self, what: str, do: str = "") -> None:
        super().__init__(what, do)
        self.what = what
        self.do = do

    def __str__(self) -> str:
        return f"{self.what}\n  what to do: {self.do}" if self.do else self.what


class CannotRunError(StopError):
    """The machine, the engine, the image or the cluster does not allow a run. Exit code 2."""


class InUseError(CannotRunError):
    """Another run has what this one would write to, or break; nothing was touched. Exit code 2."""


class HinderedError(CannotRunError):
    """Pods of a run cannot begin, or what they bring cannot be kept. Exit code 2."""


class RefusedError(StopError):
    """Going on could touch something that is not ours. Exit code 3."""

    exit_code = 3


class UsageError(StopError):
    """An option or a file has a value that means nothing. Exit code 4."""

    exit_code = 4


class StoppedError(StopError):
    """Somebody pressed Ctrl-C, or the like; says what became of what had been made. Exit code 2."""

    def __init__(self, left: str = "") -> None:
        super().__init__(f"stopped by you; {left}" if left else "stopped by you")


class ProbeBrokenError(Exception):
    """The attempt itself went wrong, so it says nothing about the cluster."""


class PutOffError(ProbeBrokenError):
    """Nothing can be said now, and perhaps later: who asked is to ask again."""


class NodeAwayError(PutOffError):
    """A node was away, which no clause is about."""


class BusyError(PutOffError):
    """This machine had so little time for the attempts that they say nothing."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what}; {BUSY}")
