"""Everything that a run leaves in its folder of results beside evidence and junit.xml."""

import fcntl
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path

from e2e.errors import InUseError, RefusedError, UsageError
from e2e.provider.clusters import CLUSTERS
from e2e.report.clauses import Clause
from e2e.report.matrix import MATRIX
from e2e.report.result import RESULT, Result

SUMMARY, METRICS, CONFORMANCE, PAGE = (
    *("summary.md", "metrics.prom", "conformance.yaml", "report.html"),
)
# What an earlier run left must not be taken for that of this one; its history stays.
JUNIT, EVIDENCE = "junit.xml", "evidence"
# Of a run in the cluster, a folder each.
SHARDS = "shards"
MADE = (JUNIT, RESULT, SUMMARY, METRICS, CONFORMANCE, PAGE)
# Whoever names a folder for results may have folders there that are called as ours are.
MARK = ".nodeport-e2e"
MEANING = f"Runs write results here, and replace {EVIDENCE}/, {SHARDS}/ and {CLUSTERS}/.\n"


def of_cluster(out: Path) -> Path:
    """The folder of what is saved of a cluster that could not be made, or was not well."""
    return out / EVIDENCE / "cluster"


@contextmanager
def alone(out: Path) -> Iterator[None]:
    """Have the folder of the results for this run, whose files those of another would replace.

    Raises:
        InUseError: another run writes there.
        UsageError: it is no folder, or has what may not be replaced.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        # The lock is on the folder itself, so that nothing of it is left there.
        folder = os.open(out, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise UsageError(
            f"--out={out} is no folder for results: {error.strerror}", "name another, or E2E_OUT"
        ) from error
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InUseError(
                f"another run writes its results to {out}",
                "wait for its end, or name another folder: --out, or E2E_OUT",
            ) from error
        demand_ours(out)
        yield
    finally:
        os.close(folder)


def demand_ours(out: Path, *, but: str = "") -> None:
    """Go on only if what results replace in a folder was made by a run.

    Args:
        out: the folder.
        but: what is not replaced in it.

    Raises:
        UsageError: it was not.
    """
    if any((out / name).exists() for name in (MARK, RESULT, MATRIX)):
        return
    for name in (EVIDENCE, SHARDS, CLUSTERS):
        if name != but and (out / name).exists():
            raise UsageError(
                f"{out / name} was not made by a run, which would replace it",
                "name another folder for results: --out, or E2E_OUT",
            )


def remove_all(out: Path) -> None:
    """Remove a folder of results with all that is in it.

    Raises:
        InUseError: a run, a soak, or a watch of an upgrade writes somewhere in it.
    """
    for path in [out, *out.rglob("*")]:
        if path.is_symlink():
            continue
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InUseError(f"another run writes to {path}", "wait for its end") from error
        finally:
            os.close(descriptor)
    shutil.rmtree(out)


def remove(out: Path, *, but: str = "") -> None:
    """Remove what an earlier run wrote, so that nobody takes it for that of this one.

    Args:
        out: the folder of its results.
        but: the folder in it that is of this run already.
    """
    for name in (EVIDENCE, SHARDS):
        if name != but:
            remove_folder(out, name)
    for name in MADE:
        (out / name).unlink(missing_ok=True)


def remove_folder(out: Path, name: str) -> None:
    """Remove a folder of results of earlier runs, and note that it is of runs from now on."""
    # Where that cannot be noted the next run is refused, and removes nothing.
    with suppress(OSError):
        (out / MARK).write_text(MEANING)
    shutil.rmtree(out / name, ignore_errors=True)


@contextmanager
def replaced(out: Path) -> Iterator[None]:
    """Do the same when a run has what it needs; one that is refused touches nothing."""
    try:
        yield
    except (UsageError, RefusedError):
        raise
    except BaseException:
        # Evidence of a cluster is that of the one which could not be made.
        remove(out, but=EVIDENCE if of_cluster(out).exists() else "")
        raise
    remove(out)


def write(result: Result, out: Path, contract: Sequence[Clause]) -> tuple[Path, str]:
    """Write all of them.

    Returns:
        the one that people look at, and what went wrong with the history, which spoils no run.

    Raises:
        OSError: the folder cannot be written to.
    """
    # A command that only removes them need not know how they are made.
    from e2e.report.conformance import as_yaml, conformance  # noqa: PLC0415
    from e2e.report.history import History  # noqa: PLC0415
    from e2e.report.metrics import metrics  # noqa: PLC0415
    from e2e.report.past import past_of  # noqa: PLC0415
    from e2e.report.run_page import run_page  # noqa: PLC0415
    from e2e.report.step_summary import step_summary  # noqa: PLC0415

    out.mkdir(parents=True, exist_ok=True)
    result.save(out)
    (out / SUMMARY).write_text(step_summary(result))
    (out / METRICS).write_text(metrics(result))
    (out / CONFORMANCE).write_text(as_yaml(conformance(result, contract)))
    past, problem = None, ""
    try:
        history = History(out)
        history.add(result)
        past = past_of(history, result)
    except UsageError as error:
        problem = str(error)
    (out / PAGE).write_text(run_page(result, past))
    return out / PAGE, problem


def version() -> str:
    """Which harness this is."""
    try:
        return f"nodeport-e2e {metadata.version('nodeport-e2e')}"
    except metadata.PackageNotFoundError:
        return "nodeport-e2e, run from a checkout"
