"""Writes docs/faults.md from the faults and what became of them."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from e2e.plain import count_of
from e2e.provider.lane import PROXIES
from e2e.report.faults import Fault, faults
from e2e.report.matrix import Trial, counted
from e2e.report.proofs import DOCS, seen

DOCUMENT = DOCS / "faults.md"
HEAD = """\
# Faults

Made by `make docs` from the files in `e2e/faults/` and from what `make faults` found; do not edit \
it by hand.

A suite that is always green proves nothing, so clusters are broken on purpose: {count} ways, each \
with the clauses that must notice it.
A fault is detected if every one of these fails while it is in force. Others may notice it too, \
and are asked so that each clause is seen to be able to fail.
That it is in force is asked before and afterwards; one that is not is an error, and no miss.
The node is named right if the reasons of those that fail, or else the lines that are marked as \
wrong, name that node and no other, and the reason if a line that is printed says what was done.
No clock is set wrong: all nodes of kind have that of the machine, and the programs of Kubernetes \
take no other.
Nor is another range of node ports a fault: clauses ask the cluster for its own, and lanes have \
others (`SHAPE=other-range`, `SHAPE=small-range`).
"""
SPECS = """\
### Beside Kubernetes' own NodePort specs

{count} of the [17 specs](upstream-specs.md) were asked while the same fault was in force (`make \
faults SPECS=1`); a fault is noticed if one of them fails that passes when nothing is broken, or \
their suite does not begin, as a node or a pod of kube-system is not Ready.
Left out are

- three that take about a minute, or several: "update nodePort: http", "update nodePort: udp", and \
"have session affinity timeout work for NodePort service";
- one that skips itself below three workers: "implement NodePort and HealthCheckNodePort correctly \
when ExternalTrafficPolicy changes";
- three that look at no node: "check NodePort out-of-range", "prevent NodePort collisions", and \
"be able to change the type from NodePort to ExternalName";
- and one more, of 25 s, that would have fitted: "be able to update service type to NodePort \
listening on same port number but different protocols".
"""
WORDS = {True: "yes", False: "no", None: "-"}


def text() -> str:
    """The whole document."""
    trials = seen()
    parts = [HEAD.format(count=len(faults()))]
    for lane, of_lane in groupby(trials, key=lambda trial: trial.lane):
        found = {trial.fault: trial for trial in of_lane}
        minutes = sum(trial.seconds for trial in found.values()) / 60
        took = f"{count_of(round(minutes), 'minute')} one after another"
        parts.append(f"\n## {lane}\n\n{counted(found.values())}; {took}.\n")
        parts.append("| fault | ended | noticed by | not by | node named | reason right | s |")
        parts.append("| --- | --- | --- | --- | --- | --- | --- |")
        parts += [_row(trial) for trial in found.values()]
        parts += _beside_specs(found.values())
    parts.append("\n## What each is\n")
    parts.append("| fault | what it does | where | like | modes | must notice | may notice |")
    parts.append("| --- | --- | --- | --- | --- | --- | --- |")
    parts += [_entry(fault) for fault in faults()]
    parts += _untried(trials, faults())
    return "\n".join(parts) + "\n"


def _beside_specs(trials: Iterable[Trial]) -> Iterator[str]:
    """Kubernetes' own specs beside the clauses, where both were asked."""
    every = list(trials)
    both = [trial for trial in every if trial.specs and trial.ended != "error"]
    if not both:
        return
    ours = sum(trial.ended == "detected" for trial in both)
    theirs = sum(bool(trial.noticed_by_specs) for trial in both)
    count = max(len(trial.specs) for trial in both)
    yield (
        f"\n{SPECS.format(count=count)}\nOf {len(both)} faults the clauses detected {ours}, and "
        f"the specs noticed {theirs}.{_not_compared(every)}\n"
    )
    yield "| fault | clauses | specs that failed |"
    yield "| --- | --- | --- |"
    for trial in both:
        failed = "; ".join(trial.noticed_by_specs) or "none"
        yield f"| `{trial.fault}` | {trial.ended} | {failed} |"


def _not_compared(trials: Iterable[Trial]) -> str:
    """How many faults were tried without specs, and why."""
    left = [trial for trial in trials if not trial.specs]
    known = {fault.name: fault for fault in faults()}
    alone: dict[str, list[str]] = {}
    for trial in left:
        ways = (known[trial.fault].way(word) for word in trial.lane.split() if word in PROXIES)
        how = "".join(way.for_clauses_alone for way in ways if way)
        alone.setdefault(how, []).append(trial.fault)
    rest = alone.pop("", [])
    why = [f"{len(names)} made {how}" for how, names in alone.items()]
    why += [f"{len(rest)} beside which they were not asked: {_names(rest)}"] if rest else []
    return f" {len(left)} more are not compared: {'; '.join(why)}." if why else ""


def _row(trial: Trial) -> str:
    noticed = [c for c, ended in trial.noticed.items() if ended == "failed"]
    noticed += [f"{clause} (not meant to)" for clause in trial.fell]
    more = [clause for clause, ended in trial.also.items() if ended == "failed"]
    silent = [f"`{clause}`" for clause in trial.silent]
    silent += [f"`{clause}` (not judged)" for clause in trial.unjudged]
    ended = f"{trial.ended}: {trial.said}" if trial.said else trial.ended
    cells = (
        *(f"`{trial.fault}`", ended.replace("\n", " ").replace("|", "/")),
        _names(noticed) + (f", and {len(more)} that may" if more else ""),
        ", ".join(silent) or "-",
        *(WORDS[trial.named], WORDS[trial.explained], f"{trial.seconds:.0f}"),
    )
    return f"| {' | '.join(cells)} |"


def _names(clauses: Iterable[str]) -> str:
    return ", ".join(f"`{clause}`" for clause in clauses) or "-"


def _entry(fault: Fault) -> str:
    link, says = fault.like
    like = f"[{says}]({link})" if link else says
    cells = (f"`{fault.name}`", fault.does, fault.where, like, ", ".join(fault.modes))
    return f"| {' | '.join(cells)} | {_names(fault.clauses)} | {_names(fault.also)} |"


def _untried(trials: Iterable[Trial], known: Sequence[Fault]) -> Iterator[str]:
    tried = {(trial.fault, mode) for trial in trials for mode in trial.lane.split()}
    for mode in PROXIES:
        sensible = [fault.name for fault in known if fault.way(mode)]
        if left := [name for name in sensible if (name, mode) not in tried]:
            yield (
                f"\nNot tried so far in {mode} mode are {len(left)} of the {len(sensible)} that "
                f"make sense there: {', '.join(left)}."
            )
