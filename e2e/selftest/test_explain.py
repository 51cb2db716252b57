"""What is said of a clause: all that is known of it, and a command that asks it."""

import shlex

import pytest
from click.testing import CliRunner

from e2e.before.commands import explain as command
from e2e.before.explain import explain
from e2e.before.facts import of_lane
from e2e.before.plan import reasons
from e2e.cluster.capabilities import capabilities
from e2e.errors import UsageError
from e2e.provider.lane import Lane
from e2e.provider.node_image import DEFAULT
from e2e.report import lanes
from e2e.report.clauses import catalogue, choose, contract


def alone(clause: str) -> list[str]:
    """The words of the command that asks it alone."""
    lines = explain(clause).splitlines()
    (line,) = [line for line in lines if line.startswith("  alone")]
    return shlex.split(line)[1:]


@pytest.mark.parametrize("clause", [each.id for each in contract()])
def test_every_clause_is_explained_and_its_command_asks_it(clause):
    """All facts are there, and on the lane of the command the clause would not be skipped."""
    said = explain(clause)
    (known,) = choose(clause, None, ours=True)

    assert said.startswith(f"{clause}\n  {known.claim}\n")
    for told in (*known.covers, *known.needs, *known.families, *known.vantages, known.where):
        assert told in said
    for covered in set(known.covers) & catalogue().upstream.keys():
        assert catalogue().upstream[covered] in said
    make, target, *given = alone(clause)
    assert make == "make"
    assert f"ONLY={clause}" in given
    if target == "e2e":
        lane = dict(each.lower().split("=") for each in given if not each.startswith("ONLY="))
        facts = of_lane(Lane(DEFAULT, **lane))
        assert not any(reasons(known, capabilities(facts), facts))
    else:
        assert known.needs == ("external-addresses",)


def test_lanes_on_which_it_held_are_named(monkeypatch):
    """They are those of lanes.toml, and where there is none that is said."""
    monkeypatch.setattr("e2e.before.explain.seen", lambda: {"v1 here": ["reach.control-plane"]})

    assert "  held on   v1 here\n" in explain("reach.control-plane")
    assert "  held on   no lane that was noted\n" in explain("reach.cordoned-node")
    assert lanes.seen()


@pytest.mark.parametrize(
    ("name", "first"), [("DP-06", "DP-06  A node without"), ("N-11", "N-11  "), ("reach", "reach.")]
)
def test_a_topic_and_an_id_of_the_catalogue_lead_to_their_clauses(name, first):
    """What covers a promise or a behaviour is found by it, behind its statement."""
    said = explain(name)

    assert said.startswith(first)
    assert all(f"{each.id}\n  {each.claim}\n" in said for each in choose(name, None, ours=True))


def test_what_no_clause_covers_has_its_reason():
    """A behaviour without a clause is no slip."""
    assert "no clause covers it: needs an upgrade" in explain("UPG-01")


def test_a_slip_is_answered_with_what_comes_near():
    """An unknown name ends with 4 and the nearest known ones."""
    with pytest.raises(UsageError, match=r"did you mean reach\.control-plane") as caught:
        explain("reach.contol-plane")

    assert caught.value.exit_code == 4


def test_names_are_completed():
    """A shell that asks for the rest of a name gets every clause that begins so."""
    env = {
        "_EXPLAIN_COMPLETE": "bash_complete",
        "COMP_WORDS": "explain reach.co",
        "COMP_CWORD": "1",
    }

    done = CliRunner().invoke(command, prog_name="explain", env=env)

    assert done.output.split() == ["plain,reach.control-plane", "plain,reach.cordoned-node"]
