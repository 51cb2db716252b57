"""`nodeport-e2e compare`: what it takes, what it says in each form, and how it ends."""

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from e2e.errors import UsageError
from e2e.report.upgrade_junit import changes_junit
from e2e.report.upgrade_text import changes_text
from e2e.selftest.fingerprints import content, fingerprint
from e2e.selftest.programs import environment, only_path, python
from e2e.upgrade.compare import compare, read_run

CASE = """<testcase classname="e2e.contract.test_a" name="test_{0}" time="1"><properties>
<property name="clause" value="{0}"/><property name="lane" value="lane: x"/>
<property name="converged" value="0.500 s outside -> worker:30080"/>
<property name="converged" value="0.250 s outside -> echo-abc-0 (IPv4):8080 (new connections)"/>
{1}</testcase>"""
HELD, FAILED = "</properties>", '<property name="said" value="not settled"/>'
FAILED += '<property name="ended" value="failed"/></properties><failure message="x"/>'


def run(folder: Path, **ends: str) -> Path:
    folder.mkdir()
    cases = "".join(CASE.format(name, end) for name, end in ends.items())
    (folder / "junit.xml").write_text(f"<testsuites><testsuite>{cases}</testsuite></testsuites>")
    return folder


@pytest.fixture
def variables(tmp_path: Path) -> dict[str, str]:
    return environment(tmp_path, only_path(tmp_path / "bin"))


def test_two_runs_are_compared_in_every_form(tmp_path, variables):
    a, b = run(tmp_path / "a", one=HELD, two=HELD), run(tmp_path / "b", one=HELD, two=FAILED)
    xml = tmp_path / "found.xml"

    same = python("e2e.cli", "compare", str(a), str(a), env=variables)
    text = python("e2e.cli", "compare", str(a), str(b), f"--junit={xml}", env=variables)
    data = python("e2e.cli", "compare", "--json", str(a), str(b), env=variables)

    assert (same.returncode, same.stdout) == (0, f"Same: 2 clauses of {a} and {a} are alike.\n")
    assert text.returncode == data.returncode == 1
    assert "x two: held -> failed: not settled" in text.stdout
    assert json.loads(data.stdout)["behaviours"][0]["clause"] == "two"
    suite = ET.parse(xml).getroot()[0]  # noqa: S314  # ours
    assert suite.attrib["failures"] == "1"
    assert [case.get("name") for case in suite] == ["two"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("a", "b", "bin", "found.xml"),
        *("home", "tmp"),
    ]


def test_a_file_that_cannot_be_written_is_named_and_no_verdict(tmp_path, variables):
    a = run(tmp_path / "a", one=HELD)
    done = python("e2e.cli", "compare", str(a), str(a), "--junit=/nowhere/x.xml", env=variables)

    assert (done.returncode, done.stdout) == (4, "")
    assert "/nowhere/x.xml cannot be written: No such file" in done.stderr


@pytest.mark.parametrize("what", ["nowhere", "empty", "text", "no-clause"])
def test_what_is_no_run_is_named_and_ends_with_4(tmp_path, variables, what):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "junit.xml").write_text("<testsuite")
    run(tmp_path / "no-clause")

    done = python("e2e.cli", "compare", str(tmp_path / what), str(tmp_path), env=variables)

    assert done.returncode == 4
    assert str(tmp_path / what) in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_with_two_fingerprints_asks_which(tmp_path):
    for name in ("before.json", "after.json"):
        fingerprint().save(tmp_path / name)

    with pytest.raises(UsageError, match="has two fingerprints") as caught:
        read_run(tmp_path)

    assert str(tmp_path / "after.json") in caught.value.do
    assert read_run(tmp_path / "after.json").fingerprint == fingerprint()


def test_fingerprints_of_one_cluster_are_compared_in_full(tmp_path):
    said = content("v1.37.2")
    said["services"]["shop/shop"]["spec"]["ports"][0]["nodePort"] = 31999
    fingerprint().save(tmp_path / "a.json")
    fingerprint(said).save(tmp_path / "b.json")

    found = compare(read_run(tmp_path / "a.json"), read_run(tmp_path / "b.json"))

    assert [each.field for each in found.allocations] == ["node port of 80/TCP"]
    assert [each.counts for each in found.versions] == [False] * 3
    assert found.exit_code == 1


def test_without_clauses_none_is_said_to_be_alike(tmp_path):
    fingerprint(content() | {"behaviours": None}).save(tmp_path / "a.json")
    taken = read_run(tmp_path / "a.json")

    assert changes_text(compare(taken, taken)).startswith("Same: all but clauses, which are not ")


def test_of_two_clusters_no_services_are_compared(tmp_path):
    said = content()
    said |= {"cluster": "another", "services": {}, "prepared": {}}
    fingerprint().save(tmp_path / "a.json")
    fingerprint(said).save(tmp_path / "b.json")

    found = compare(read_run(tmp_path / "a.json"), read_run(tmp_path / "b.json"))

    assert found.exit_code == 0
    assert found.asked == 2


def test_a_clause_that_could_not_be_judged_is_no_verdict(tmp_path):
    broken = FAILED.replace('"failed"', '"broken"')
    a, b = run(tmp_path / "a", one=HELD, two=HELD), run(tmp_path / "b", one=HELD, two=broken)

    found = compare(read_run(a), read_run(b))

    assert found.exit_code == 2
    suite = ET.fromstring(changes_junit(found))[0]  # noqa: S314  # ours
    assert (suite.get("failures"), suite.get("errors")) == ("0", "1")


def test_nothing_in_common_is_said():
    a = read_run_of(behaviours=True)
    b = read_run_of(behaviours=False)

    with pytest.raises(UsageError, match="nothing in common"):
        compare(a, b)


def read_run_of(*, behaviours: bool):
    from e2e.upgrade.compare import Run  # noqa: PLC0415

    taken = fingerprint()
    return Run("a", taken.behaviours, None) if behaviours else Run("b", {}, taken)


def test_times_are_kept_by_node_and_pods_are_one(tmp_path):
    (one,) = read_run(run(tmp_path / "a", one=HELD)).behaviours.values()

    assert one.converged == {"worker": (0.5,), "pods": (0.25,)}
