"""Reads the clauses from the source of the contract, and checks the rules that bind them."""

import ast
import re
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache
from pathlib import Path

from e2e.errors import UsageError
from e2e.plain import count_of
from e2e.report.lanes import seconds
from e2e.report.shard import Shard

CONTRACT = Path(__file__).parents[1] / "contract"
CATALOGUE = CONTRACT / "catalogue.toml"
# What a clause asks of a cluster. By default it must hold on any that is conformant (core), may
# depend on an implementation's choice (extended), has to be alone with the cluster (disruptive),
# takes minutes (slow).
DISRUPTIVE = "disruptive"
FAMILIES = ("core", "extended", DISRUPTIVE, "slow")
OUTSIDE, BESIDE = "outside", "a container beside the nodes"
HOSTS, PODS = "the nodes' own network", "pods"
# Where callers stand, by the fixture that a clause takes, and by what it asks of its nouns.
VANTAGES = {
    "outside": (OUTSIDE,),
    "expose_many": (OUTSIDE,),
    "scan": (OUTSIDE,),
    "caller": (BESIDE,),
    "own_callers": (BESIDE,),
    "clients": (BESIDE,),
    "straying_caller": (BESIDE,),
    "stream_to_pod": (BESIDE,),
    "in_hosts": (HOSTS,),
    "in_pods": (PODS,),
    "alias_of": (PODS,),
    "look_up": (PODS,),
    "inside": (PODS, HOSTS),
}
ASKED = {"vantage": PODS, "health_ports": OUTSIDE, "says": HOSTS}
# What clauses begin with that want one certain node port.
ONE_NUMBER = ("example.", "range.ends-serve")
ID = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*\.[a-z0-9]+(-[a-z0-9]+)*")


@dataclass(frozen=True)
class Clause:
    """One statement of the contract.

    Attributes:
        id: its permanent name, `topic.short-phrase`.
        covers: ids of the notes and of the catalogue that it proves.
        needs: what a cluster or machine must have for it.
        claim: the statement.
        topic: the statement of its file.
        where: file and test, as pytest names them.
        families: of FAMILIES.
        known_bug: the issue of the bug whose present effect it pins, if it does.
        vantages: where its callers stand; nowhere if it asks the API alone.
        left_open: what it looks up in choices.toml, as far as its source names it.
        left_to_versions: likewise in versions.toml.
        everywhere: whether it wants an echo on each node, beside those in nodes' own networks.
    """

    id: str
    covers: tuple[str, ...]
    needs: tuple[str, ...]
    claim: str
    topic: str
    where: str
    families: tuple[str, ...] = ("core",)
    known_bug: str = ""
    vantages: tuple[str, ...] = ()
    left_open: tuple[str, ...] = ()
    left_to_versions: tuple[str, ...] = ()
    everywhere: bool = False

    @property
    def names(self) -> set[str]:
        """What it can be asked for by: its id, its topic, and what it covers."""
        return {self.id, self.id.partition(".")[0], *self.covers}

    @property
    def is_disruptive(self) -> bool:
        """Whether it disturbs the cluster, or would be disturbed by others."""
        return DISRUPTIVE in self.families


@dataclass(frozen=True)
class Catalogue:
    """What clauses can cover, by id, and what is known of it.

    Attributes:
        notes: promises of the notes.
        behaviours: what can be observed.
        upstream: what Kubernetes' own suite checks of a behaviour.
        needs: what clauses can need.
        reasons: why no clause covers a behaviour.
    """

    notes: dict[str, str]
    behaviours: dict[str, str]
    upstream: dict[str, str]
    needs: dict[str, str]
    reasons: dict[str, str] = field(default_factory=dict)


@cache
def catalogue(file: Path = CATALOGUE) -> Catalogue:
    """Read the catalogue."""
    content = tomllib.loads(file.read_text())
    return Catalogue(**content)


def read_clauses(folder: Path = CONTRACT, known: Catalogue | None = None) -> list[Clause]:
    """Every clause of the contract, in the order of files and lines.

    Raises:
        UsageError: a test breaks a rule, or a note has no clause; names every one of them.
    """
    known = known or catalogue()
    clauses: list[Clause] = []
    problems: list[str] = []
    for file in sorted(folder.glob("test_*.py")):
        found, wrong = _read_file(file)
        clauses += found
        problems += wrong
    seen: dict[str, str] = {}
    for clause in clauses:
        if clause.id in seen:
            problems.append(f"{clause.where}: {clause.id} is the id of {seen[clause.id]} too")
        seen.setdefault(clause.id, clause.where)
        unknown = [i for i in clause.covers if i not in known.notes | known.behaviours]
        if unknown:
            problems.append(f"{clause.where}: not in catalogue.toml: {', '.join(unknown)}")
        if unmet := [need for need in clause.needs if need not in known.needs]:
            problems.append(f"{clause.where}: nobody knows the need {', '.join(unmet)}")
    covered = {i for clause in clauses for i in clause.covers}
    if uncovered := [note for note in known.notes if note not in covered]:
        problems.append(f"no clause covers {', '.join(uncovered)}")
    if known.reasons:
        open_ = [i for i in known.behaviours if i not in covered | known.reasons.keys()]
        problems += [f"{i} has neither a clause nor a reason" for i in open_]
        problems += [f"{i} has a clause and a reason" for i in known.reasons if i in covered]
    if problems:
        raise UsageError("the contract breaks its own rules:\n  " + "\n  ".join(problems))
    return clauses


@cache
def contract() -> tuple[Clause, ...]:
    """Every clause of this contract, whose source does not change while it is asked."""
    return tuple(read_clauses())


def choose(only: str | None, families: str | None, *, ours: bool) -> tuple[Clause, ...]:
    """The clauses that are asked for.

    Args:
        only: ids and topics of clauses and ids of the catalogue, whatever their families; but a
            cluster that is not ours is disturbed only by clauses whose own id is among them, or
            where the family is named that does.
        families: names of families, or `all`, which is all but the disruptive one if the cluster
            is not ours; by default those that are quick, and the disruptive one if it is ours.
        ours: whether the cluster is one that a run makes.

    Raises:
        UsageError: something is asked for that nothing is called, or disruptive clauses alone.
    """
    clauses = contract()
    names, wanted = _words(only), _words(families)
    for what, said, read in (("--only", only, names), ("--families", families, wanted)):
        if said and not read:
            raise UsageError(f"{what} names nothing: {said!r}", "name some, or leave it out")
    known = _known(clauses)
    if unknown := sorted(names - known):
        near = [each for name in unknown for each in get_close_matches(name, sorted(known))]
        do = f"did you mean {', '.join(near)}? " if near else ""
        raise UsageError(f"no clause is called {', '.join(unknown)}", f"{do}see docs/contract.md")
    if unknown := sorted(wanted - {*FAMILIES, "all"}):
        raise UsageError(
            f"no family of clauses is called {', '.join(unknown)}",
            f"use {', '.join(FAMILIES)} or all",
        )
    if "all" in wanted:
        wanted |= {family for family in FAMILIES if ours or family != DISRUPTIVE}
    if names:
        named = tuple(clause for clause in clauses if clause.names & names)
        disturbs = ours or DISRUPTIVE in wanted
        chosen = tuple(c for c in named if disturbs or not c.is_disruptive or c.id in names)
        if named and not chosen:
            raise UsageError(
                f"{', '.join(sorted(names))} has disruptive clauses alone",
                f"name them, to disturb this cluster: {', '.join(clause.id for clause in named)}",
            )
        return chosen
    wanted = wanted or {"core", "extended", *([DISRUPTIVE] if ours else [])}
    return tuple(clause for clause in clauses if wanted.issuperset(clause.families))


def part_of(clauses: Sequence[Clause], shard: Shard | None, *, ours: bool) -> tuple[Clause, ...]:
    """The clauses that a shard asks.

    By clauses each is in exactly one shard. By nodes the first shard asks all of them, and the
    others those that call anything, through other nodes. Those that want one certain node port are
    asked by one shard, in either way, as shards do not see each other's locks.

    Args:
        clauses: those of all shards.
        shard: which; all of them by default.
        ours: whether each shard has a cluster of its own.

    Raises:
        UsageError: it would ask nothing, or disturb the others.
    """
    if shard is None:
        return tuple(clauses)
    disturbing = [clause.id for clause in clauses if clause.is_disruptive]
    if disturbing and shard.of > 1 and not ours:
        raise UsageError(
            f"{', '.join(disturbing[:3])}{' and others' if disturbing[3:] else ''} must be alone "
            "with the cluster, in which the other shards ask at the same time",
            "ask disruptive clauses by a run of its own, without a shard",
        )
    if shard.by == "nodes":
        chosen = [
            clause
            for clause in clauses
            if shard.number == 1 or (clause.vantages and not clause.id.startswith(ONE_NUMBER))
        ]
    else:
        costs = seconds()
        together = [clause.id for clause in clauses if clause.id.startswith(ONE_NUMBER)]
        first, others = together[:1], together[1:]
        costs |= dict.fromkeys(first, sum(costs.get(name, 0.0) for name in together))
        picked = set(shard.pick((c.id for c in clauses if c.id not in others), costs))
        picked |= {*others} if picked.intersection(first) else set()
        chosen = [clause for clause in clauses if clause.id in picked]
    if not chosen:
        count = count_of(len(clauses), "clause")
        raise UsageError(
            f"shard {shard} is empty: there is nothing in it of the {count} that are asked for",
            f"have {count_of(len(clauses), 'shard')} at most",
        )
    return tuple(chosen)


def names_beginning(with_: str) -> list[str]:
    """All that clauses can be asked for by and that begins so."""
    return sorted(name for name in _known(contract()) if name.startswith(with_))


def _known(clauses: Iterable[Clause]) -> set[str]:
    names = {name for clause in clauses for name in clause.names}
    return names | catalogue().notes.keys() | catalogue().behaviours.keys()


def _words(said: str | None) -> set[str]:
    return set((said or "").replace(",", " ").split())


def _read_file(file: Path) -> tuple[list[Clause], list[str]]:
    try:
        tree = ast.parse(file.read_text(), str(file))
    except SyntaxError as error:
        return [], [f"{file.name}: no Python: {error.msg} in line {error.lineno}"]
    topic = (ast.get_docstring(tree) or "").partition("\n")[0]
    problems = [] if topic else [f"{file.name}: no docstring that names the topic"]
    file_marks = [
        mark
        for node in tree.body
        if isinstance(node, ast.Assign) and _names(node.targets) == ["pytestmark"]
        for mark in _marks(node.value)
    ]
    clauses = []
    for test in ast.walk(tree):
        if not isinstance(test, ast.FunctionDef) or not test.name.startswith("test_"):
            continue
        where = f"{file.name}::{test.name}"
        marks = [mark for node in test.decorator_list for mark in _marks(node)]
        named = [mark for mark in marks if mark[0] == "clause"]
        claim = " ".join((ast.get_docstring(test) or "").split())
        if len(named) != 1:
            problems.append(f"{where}: needs exactly one @pytest.mark.clause, has {len(named)}")
            continue
        if not claim:
            problems.append(f"{where}: has no docstring, and that is the claim")
        _, args, covers = named[0]
        if len(args) != 1 or not ID.fullmatch(args[0]):
            problems.append(f"{where}: wants one id of the form topic.short-phrase, has {args}")
            continue
        if not covers:
            problems.append(f"{where}: covers nothing of the catalogue")
        needs = [name for mark in file_marks + marks if mark[0] == "needs" for name in mark[1]]
        every = file_marks + marks
        families = tuple(name for mark in every if mark[0] == "family" for name in mark[1])
        if unknown := set(families) - set(FAMILIES):
            problems.append(f"{where}: no family is called {', '.join(sorted(unknown))}")
        bugs = [link for mark in marks if mark[0] == "known_bug" for link in mark[1]]
        clauses.append(
            Clause(
                *(args[0], tuple(covers), tuple(needs), claim, topic, where),
                families=families or ("core",),
                known_bug="".join(bugs),
                vantages=tuple(dict.fromkeys(_vantages(test))),
                left_open=tuple(_asked_of("chosen", test)),
                left_to_versions=tuple(_asked_of("answer_of_version", test)),
                everywhere=any(arg.arg == "everywhere" for arg in test.args.args),
            )
        )
    return clauses, problems


def _vantages(test: ast.FunctionDef) -> Iterator[str]:
    for arg in test.args.args:
        yield from VANTAGES.get(arg.arg, ())
    for node in ast.walk(test):
        if isinstance(node, ast.Attribute) and node.attr in ASKED:
            yield ASKED[node.attr]


def _asked_of(fixture: str, test: ast.FunctionDef) -> Iterator[str]:
    """The literal arguments with which a test calls a fixture."""
    for node in ast.walk(test):
        match node:
            case ast.Call(func=ast.Name(id=name), args=[ast.Constant(value=str(said))]):
                if name == fixture:
                    yield said


def _names(targets: list[ast.expr]) -> list[str]:
    return [target.id for target in targets if isinstance(target, ast.Name)]


def _marks(node: ast.expr) -> list[tuple[str, list[str], list[str]]]:
    """The pytest marks in an expression: name, arguments and `covers`, all literal."""
    if isinstance(node, ast.List | ast.Tuple):
        return [mark for element in node.elts for mark in _marks(element)]
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return []
    args = [arg.value for arg in node.args if isinstance(arg, ast.Constant)]
    covers = [
        element.value
        for keyword in node.keywords
        if keyword.arg == "covers" and isinstance(keyword.value, ast.List)
        for element in keyword.value.elts
        if isinstance(element, ast.Constant)
    ]
    return [(node.func.attr, list(map(str, args)), list(map(str, covers)))]
