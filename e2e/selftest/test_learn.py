"""The page for beginners: what it claims is proved by clauses that exist, and can be run."""

import re
import shlex
from pathlib import Path

import pytest

from e2e.before.facts import of_lane
from e2e.before.plan import reasons
from e2e.cluster.capabilities import capabilities
from e2e.provider.lane import Lane
from e2e.provider.node_image import DEFAULT
from e2e.report.clauses import catalogue, contract
from e2e.report.contract_document import DOCS, DOCUMENT

LEARN = DOCS / "learn.md"
CLAUSES = {each.id.replace(".", ""): each for each in contract()}
LINK = re.compile(r"\]\(contract\.md#([^)]*)\)")


def parts() -> dict[str, str]:
    """What stands below each heading, but for where to go on."""
    _, *found = re.split(r"(?m)^## ", LEARN.read_text())
    told = dict(part.split("\n", 1) for part in found)
    assert told.pop("Go on")
    return told


def prose(text: str) -> list[str]:
    """The lines that claim something: no code, and no picture of what is talked about."""
    without_code = re.sub(r"(?ms)^```.*?^```$", "", text)
    return [line for line in without_code.splitlines() if line and not line.startswith(">")]


def test_anchors_are_those_of_the_document():
    """A clause's heading has its id alone, of which an anchor keeps all but backticks and dots."""
    headings = re.findall(r"(?m)^### (.*)$", DOCUMENT.read_text())

    assert {re.sub(r"[^a-z0-9 -]", "", each) for each in headings} == CLAUSES.keys()


@pytest.mark.parametrize("name", parts())
def test_every_sentence_that_claims_is_proved_by_a_clause(name):
    """Each line of prose links to a clause, and every clause that is linked exists."""
    lines = prose(parts()[name])

    assert lines
    assert [line for line in lines if not LINK.search(line)] == []
    assert set(LINK.findall("\n".join(lines))) <= CLAUSES.keys()


@pytest.mark.parametrize("name", parts())
def test_one_command_runs_just_the_clauses_of_a_part(name):
    """Each part has one command, which asks its clauses and no other, and none is skipped."""
    text = parts()[name]
    (command,) = re.findall(r"(?ms)^```sh\n(.*?)\n```$", text)
    *make, only = shlex.split(command)
    asked = only.removeprefix("ONLY=").split()
    linked = [CLAUSES[anchor] for anchor in LINK.findall(text)]

    assert make == ["make", "e2e", "KEEP=1"]
    assert sorted(asked) == sorted({each.id for each in linked})
    facts = of_lane(Lane(DEFAULT))
    assert not [why for each in linked for why in reasons(each, capabilities(facts), facts)]


def test_every_promise_of_the_notes_is_told():
    """The clauses that the page links to prove all of the notes."""
    linked = [CLAUSES[anchor] for anchor in LINK.findall(LEARN.read_text())]

    assert catalogue().notes.keys() <= {covered for each in linked for covered in each.covers}


def test_its_manifest_is_the_one_that_is_tried():
    """The example on the page is the file that clauses create, but for its comment."""
    (shown,) = re.findall(r"(?ms)^```yaml\n(.*?)^```$", LEARN.read_text())
    file = Path(__file__).parents[2] / "manifests" / "node-port-service.yaml"

    assert shown == re.sub(r"(?m)^#.*\n", "", file.read_text())
