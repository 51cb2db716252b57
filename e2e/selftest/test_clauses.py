"""The rules that bind every clause, and the document that is made of them."""

import ast
import re
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from e2e.errors import UsageError
from e2e.report import contract_document, lanes
from e2e.report.clauses import CONTRACT, Catalogue, catalogue, read_clauses

KNOWN = Catalogue(
    notes={"N-01": "It is created.", "N-02": "It answers."},
    behaviours={"DP-01": "Every node answers."},
    upstream={"DP-01": "should serve"},
    needs={"control-plane": "one", "two-workers": "two", "outside-caller": "beside"},
)
GOOD = '''\
"""Reach: through any node."""

import pytest

pytestmark = [pytest.mark.needs("control-plane"), pytest.mark.timeout(60)]


@pytest.mark.clause("reach.every-node", covers=["DP-01", "N-02"])
@pytest.mark.needs("two-workers", "outside-caller")
def test_every_node_answers(nodes):
    """Every node answers,
    also one without a pod.
    """


def place_something():
    """Not a test."""
'''
REST = '''\
"""The object."""

import pytest


@pytest.mark.clause("object.created", covers=["N-01"])
def test_it_is_created():
    """It is created."""
'''


@pytest.fixture
def contract(tmp_path):
    """A contract in a folder of its own: one good file, and one that a test writes."""
    (tmp_path / "test_good.py").write_text(GOOD)
    (tmp_path / "conftest.py").write_text("not even Python")

    def read(text: str = REST, *, known: Catalogue = KNOWN):
        (tmp_path / "test_other.py").write_text(text)
        return read_clauses(tmp_path, known)

    return read


def problems(contract, text: str) -> list[str]:
    """Give what is said of a broken rule, one entry for each, as it stands in the message."""
    with pytest.raises(UsageError) as caught:
        contract(text)
    head, *lines = caught.value.what.splitlines()
    assert head == "the contract breaks its own rules:"
    return [line.strip() for line in lines]


def test_a_clause_is_read_from_its_source(contract):
    """Id, ids covered, needs of file and test, claim, topic and place are read without running."""
    created, answers = sorted(contract(), key=lambda clause: clause.topic, reverse=True)

    assert (created.id, created.covers, created.needs) == ("object.created", ("N-01",), ())
    assert answers.id == "reach.every-node"
    assert answers.covers == ("DP-01", "N-02")
    assert answers.needs == ("control-plane", "two-workers", "outside-caller")
    assert answers.claim == "Every node answers, also one without a pod."
    assert answers.topic == "Reach: through any node."
    assert answers.where == "test_good.py::test_every_node_answers"


BROKEN = {
    "no marker": (
        REST.replace('@pytest.mark.clause("object.created", covers=["N-01"])\n', ""),
        "test_other.py::test_it_is_created: needs exactly one @pytest.mark.clause, has 0",
    ),
    "two markers": (
        REST.replace("@pytest", '@pytest.mark.clause("a.b", covers=["N-01"])\n@pytest', 1),
        "test_other.py::test_it_is_created: needs exactly one @pytest.mark.clause, has 2",
    ),
    "the id of another": (
        REST.replace("object.created", "reach.every-node"),
        (
            "test_other.py::test_it_is_created: reach.every-node is the id of "
            "test_good.py::test_every_node_answers too"
        ),
    ),
    "no claim": (
        REST.replace('"""It is created."""', "pass"),
        "test_other.py::test_it_is_created: has no docstring, and that is the claim",
    ),
    "no id": (
        REST.replace('"object.created", ', ""),
        "test_other.py::test_it_is_created: wants one id of the form topic.short-phrase, has []",
    ),
    "two ids": (
        REST.replace('"object.created"', '"object.created", "object.made"'),
        (
            "test_other.py::test_it_is_created: wants one id of the form topic.short-phrase, "
            "has ['object.created', 'object.made']"
        ),
    ),
    "covers nothing": (
        REST.replace('["N-01"]', "[]"),
        "test_other.py::test_it_is_created: covers nothing of the catalogue",
    ),
    "no covers": (
        REST.replace(', covers=["N-01"]', ""),
        "test_other.py::test_it_is_created: covers nothing of the catalogue",
    ),
    "covers what nobody knows": (
        REST.replace('"N-01"', '"N-01", "XX-99", "N-99"'),
        "test_other.py::test_it_is_created: not in catalogue.toml: XX-99, N-99",
    ),
    "needs what nobody knows": (
        REST.replace("@pytest", '@pytest.mark.needs("a-moon")\n@pytest', 1),
        "test_other.py::test_it_is_created: nobody knows the need a-moon",
    ),
    "a promise is left": (
        REST.replace('"N-01"', '"DP-01"'),
        "no clause covers N-01",
    ),
    "no topic": (
        REST.replace('"""The object."""', ""),
        "test_other.py: no docstring that names the topic",
    ),
    "no Python": (
        REST + "def broken(:\n",
        "test_other.py: no Python: invalid syntax in line 9",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_rule_is_named_with_the_test_that_breaks_it(contract, case):
    """Each rule that a clause can break has its own words, which name file and test."""
    text, said = BROKEN[case]

    assert said in problems(contract, text)


@pytest.mark.parametrize(
    "name", ["", "created", "Object.created", "object.Created", "a.b.c", "a.b_c", "a. b", "a.-b"]
)
def test_an_id_has_a_topic_and_a_short_phrase(contract, name):
    """An id is two lower-case words or phrases with one dot between them, and nothing else."""
    assert (
        f"test_other.py::test_it_is_created: wants one id of the form topic.short-phrase, "
        f"has {[name]}"
    ) in problems(contract, REST.replace("object.created", name))


def test_every_problem_is_told_at_once(contract):
    """All broken rules stand in one message, in the order of files, rather than one a run."""
    text = REST.replace('"""The object."""', "").replace('"""It is created."""', "pass")

    assert problems(contract, text) == [
        "test_other.py: no docstring that names the topic",
        "test_other.py::test_it_is_created: has no docstring, and that is the claim",
    ]


def test_breaking_a_rule_is_a_usage_error(contract):
    """A contract that breaks its rules ends a run with exit code 4."""
    with pytest.raises(UsageError) as caught:
        contract("")

    assert caught.value.exit_code == 4


def test_the_contract_keeps_its_rules():
    """The real contract is whole: every rule is kept and every promise of the notes is covered."""
    clauses = read_clauses()
    covered = {i for clause in clauses for i in clause.covers}

    assert len(clauses) == len({clause.id for clause in clauses}) > 0
    assert set(catalogue().notes) <= covered


def test_no_clause_hides_from_the_reader():
    """Every test file of the contract lies where clauses are read, and none is in a subfolder."""
    files = {Path(clause.where.partition("::")[0]) for clause in read_clauses()}

    assert {file.relative_to(CONTRACT) for file in CONTRACT.rglob("test_*.py")} == files


def test_the_document_has_every_claim_and_every_promise():
    """docs/contract.md shows each clause with id, claim and place, and who proves each promise."""
    text = contract_document.text()

    for clause in read_clauses():
        assert f"### `{clause.id}`\n\n{clause.claim}\n\n" in text
        assert f"`{clause.where}`" in text
    for note, says in catalogue().notes.items():
        row = next(line for line in text.splitlines() if line.startswith(f"| {note} |"))
        assert says in row
        assert "`" in row.rpartition(" | ")[2]


def test_the_document_lists_what_no_clause_covers():
    """Every behaviour of the catalogue is in the document: as covered, or as left so far."""
    done, _, left = contract_document.text().partition("without a clause, and why")
    covered = {i for clause in read_clauses() for i in clause.covers}

    for behaviour in catalogue().behaviours:
        assert f"| {behaviour} |" in (done if behaviour in covered else left)
        assert f"| {behaviour} |" not in (left if behaviour in covered else done)


def test_the_document_is_up_to_date():
    """The document in the checkout is the one that its clauses give: make docs."""
    assert contract_document.DOCUMENT.read_text() == contract_document.text()


def test_the_head_counts_what_is_proved_what_was_seen_and_what_is_refuted(contract):
    """A clause that pins a bug proves nothing, and one that never held on a lane was not seen."""
    bug = '@pytest.mark.known_bug("https://example.test/1")\n@pytest'
    created, pins = REST, REST.replace("@pytest", bug, 1).replace("N-01", "DP-02")
    pins = pins.replace("object.created", "object.goes").replace("it_is_created", "it_goes")
    behaviours = {"DP-01": "Every node answers.", "DP-02": "It stays."}
    known = replace(KNOWN, behaviours=behaviours)
    clauses = contract(created + pins.partition("import pytest")[2], known=known)

    told = contract_document.head(clauses, known, {"v1": ["object.created"], "v2": ["no.more"]})

    assert "3 clauses prove 2 of 2 promises and 1 of 2 behaviours" in told
    assert "refute 1 more" in told
    assert "1 of them have been seen to hold on a lane, and these prove 0 of the" in told
    seen = {"v1": ["reach.every-node", "object.goes"]}
    assert "2 of them have" in contract_document.head(clauses, known, seen)
    assert "these prove 1 of the" in contract_document.head(clauses, known, seen)


JUNIT = """\
<testsuites><testsuite><testcase name="a" time="12.345"><properties>
<property name="clause" value="reach.every-node"/><property name="lane" value="lane: v1 nftables"/>
</properties></testcase><testcase name="b"><properties>
<property name="clause" value="object.created"/><property name="lane" value="lane: v1 nftables"/>
</properties><failure/></testcase></testsuite></testsuites>
"""


@pytest.fixture
def record(tmp_path, monkeypatch):
    """Keep what the run of JUNIT saw, beside what was known; gives its lane."""

    def keep(known: str) -> str:
        file, junit = tmp_path / "lanes.toml", tmp_path / "junit.xml"
        monkeypatch.setattr(lanes, "LANES", file)
        file.write_text(known)
        junit.write_text(JUNIT)
        return lanes.record(junit)

    return keep


def test_what_held_on_a_lane_is_kept(record):
    """A run's file of results adds what held there and how long it took; other lanes stay."""
    known = '"v0 iptables" = ["object.created"]\n[seconds]\n"object.created" = 1.5\n'

    assert record(known) == "v1 nftables"
    assert lanes.seen() == {
        "v0 iptables": ["object.created"],
        "v1 nftables": ["reach.every-node"],
    }
    assert lanes.seconds() == {"object.created": 1.5, "reach.every-node": 12.3}


def test_a_run_of_a_part_of_the_contract_forgets_nothing_else(record):
    """What it did not ask held as before; what it asked and did not hold holds no longer."""
    record('"v1 nftables" = ["object.created", "object.goes"]\n')

    assert lanes.seen() == {"v1 nftables": ["object.goes", "reach.every-node"]}


def test_a_behaviour_needs_a_clause_or_a_reason(contract):
    """Once reasons are given, a behaviour needs one or a clause, and never has both."""
    for reasons, said in (
        ({"DP-03": "no kernel has it"}, "DP-02 has neither a clause nor a reason"),
        ({"DP-01": "no", "DP-02": "no"}, "DP-01 has a clause and a reason"),
    ):
        behaviours = {"DP-01": "Every node answers.", "DP-02": "Pods too."}
        known = replace(KNOWN, behaviours=behaviours, reasons=reasons)

        assert said in problems(partial(contract, known=known), REST)


@pytest.mark.parametrize(
    ("marks", "families", "bug"),
    [
        ("", ("core",), ""),
        ('@pytest.mark.family("disruptive", "slow")\n', ("disruptive", "slow"), ""),
        ('@pytest.mark.known_bug("https://example.test/1")\n', ("core",), "https://example.test/1"),
    ],
)
def test_family_bug_and_vantages_are_read(contract, marks, families, bug):
    """A clause's families, the bug that it pins, and where its callers stand are in the source."""
    text = REST.replace("@pytest", f"{marks}@pytest", 1).replace("()", "(outside, in_pods)", 1)
    (clause,) = [c for c in contract(text) if c.id == "object.created"]

    assert (clause.families, clause.known_bug) == (families, bug)
    assert clause.vantages == ("outside", "pods")


@pytest.mark.parametrize(
    ("body", "vantages"),
    [
        ("standing.vantage(pod)", ("pods",)),
        ("service.health_ports(via=nodes)", ("outside",)),
        ("kube_proxy.says(node, path)", ("the nodes' own network",)),
        ("assert flow.caller.source", ()),
    ],
)
def test_a_caller_that_is_made_in_the_body_is_seen(contract, body, vantages):
    """What a clause asks of its nouns shows where it calls from, as its fixtures do."""
    (clause,) = [c for c in contract(REST + f"    {body}\n") if c.id == "object.created"]

    assert clause.vantages == vantages


def test_a_clause_about_traffic_is_called_from_somewhere():
    """Only clauses about the object, its fields and its numbers can ask the API alone."""
    topics = {"allocation", "defaults", "example", "fields", "objects", "ports", "range"}
    nowhere = [clause.id for clause in read_clauses() if not clause.vantages]

    assert [i for i in nowhere if i.partition(".")[0] not in topics] == []


def test_what_only_this_process_can_do_is_a_need():
    """A clause that wants a socket to itself says so, and is skipped where callers have none."""
    asking = re.compile(
        r"\bwatching\((?!inside)|\b(?:carry|draw_half_closed|draw_kept|health_ports|scan)\b"
    )
    sources = {file.name: ast.parse(file.read_text()) for file in CONTRACT.glob("test_*.py")}
    tests = {
        f"{name}::{node.name}": ast.unparse(node)
        for name, tree in sources.items()
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
    }

    silent = [
        clause.id
        for clause in read_clauses()
        if asking.search(tests[clause.where]) and "own-sockets" not in clause.needs
    ]

    assert silent == []


def test_an_unknown_family_is_a_broken_rule(contract):
    """A family that nobody can ask for is told."""
    text = REST.replace("@pytest", '@pytest.mark.family("quick")\n@pytest', 1)

    assert "test_other.py::test_it_is_created: no family is called quick" in problems(
        contract, text
    )
