"""What is known of implementations and versions, and how a cluster finds its row."""

import re
import tomllib

import pytest

from e2e.cluster.implementation import CONTRACT, VERSIONS, Implementation
from e2e.probe import SILENT

ASKED = tomllib.loads(VERSIONS.read_text())
SUPPORTED = [(1, minor) for minor in range(34, 38)]


def of(version, proxy="iptables"):
    """An implementation of this version."""
    return Implementation(version, proxy, {})


def test_a_version_finds_its_row():
    """Both ends of a row belong to it."""
    name = "name-that-begins-with-a-digit"

    assert of((1, 35)).answers(name)["field"] == "metadata.name"
    assert "says" not in of((1, 36)).answers(name)
    with pytest.raises(KeyError):
        of((1, 36)).answers("no such request")


def test_a_choice_is_one_of_a_proxy():
    """A row counts for its own mode only; what nobody knows is None."""
    assert of((1, 37), "nftables").chooses("local-without-a-pod") == {SILENT}
    assert of((1, 37), "unknown").chooses("local-without-a-pod") is None


@pytest.mark.parametrize("what", ASKED)
def test_every_request_has_one_row_a_version_and_a_source(what):
    """Each supported version has exactly one row, and every row says where it is from."""
    rows = ASKED[what]["rows"]

    assert ASKED[what]["asks"]
    assert all(row["source"] for row in rows)
    assert all(row.keys() <= {"since", "until", "code", "field", "says", "warns", "source"}
               for row in rows)  # fmt: skip
    for version in SUPPORTED:
        known = [row for row in rows if holds(row, version)]
        assert known == [of(version).answers(what)], version


def holds(row, version):
    """Whether a row is for a version."""
    since, until = row.get("since", "0.0"), row.get("until", "9.99")
    return numbers(since) <= version <= numbers(until)


def numbers(version):
    """A version as two numbers."""
    return tuple(map(int, version.split(".")))


def test_every_request_is_asked_by_a_clause():
    """No row is left over from a clause that is gone."""
    source = "".join(file.read_text() for file in CONTRACT.glob("test_*.py"))

    assert [what for what in ASKED if not re.search(f'"{re.escape(what)}"', source)] == []
