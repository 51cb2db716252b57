"""prepare and verify before anything is sent: what they refuse, in which words, with which code."""

import json
from pathlib import Path

import pytest

from e2e.selftest.clusters import HOME, RUN
from e2e.selftest.programs import environment, only_path, python

FLOW = {
    "service": "cluster", "node": "worker", "family": "IPv4", "address": "127.0.0.1",
    "port": 30080, "way": "new connections", "pods": "echo-a-",
}  # fmt: skip
PLAN = {
    "run": RUN, "made": "2026-11-28T01:30:00Z", "cluster": "4b1d", "namespace": HOME,
    "flows": [FLOW],
}  # fmt: skip


@pytest.fixture
def variables(tmp_path: Path) -> dict[str, str]:
    """The variables of a user whose machine has no engine, and a folder with a plan."""
    folder = tmp_path / "prepared"
    folder.mkdir()
    (folder / "plan.json").write_text(json.dumps(PLAN))
    more = {"E2E_FOLDER": str(folder), "KUBECONFIG": str(tmp_path / "kubeconfig")}
    return environment(tmp_path, only_path(tmp_path / "bin")) | more


@pytest.mark.parametrize(
    ("argv", "code", "says"),
    [
        (["prepare"], 4, "has a plan already"),
        (["prepare", "--remove"], 3, "no context was named"),
        (["verify"], 3, "no context was named"),
        (["verify", "--kube-context=a"], 4, "no kubeconfig at"),
        (["verify", "--cluster-name=a"], 4, "no cluster called a was kept"),
        (["verify", "--cluster-name=a", "--kube-context=b"], 4, "two clusters are named"),
        (["prepare", "--only=DP-99"], 4, "no clause is called DP-99"),
        (["verify", "--folder=nowhere"], 4, "no plan in"),
        (["prepare", "--remove", "--folder=nowhere"], 4, "no plan in"),
        (["verify", "--budgets=nowhere.toml"], 4, "no budgets at nowhere.toml"),
        (["verify", "--budget=x"], 4, "No such option"),
        (["compare", "a"], 4, "Missing argument"),
    ],
)
def test_nothing_is_sent_or_made_before_all_is_well(variables, argv, code, says):
    before = sorted(Path(variables["E2E_FOLDER"]).iterdir())

    done = python("e2e.cli", *argv, env=variables)

    assert done.returncode == code, done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(Path(variables["E2E_FOLDER"]).iterdir()) == before


@pytest.mark.parametrize("command", ["prepare", "watch", "verify"])
def test_what_a_killed_prepare_left_has_to_be_removed_first(variables, command):
    """A plan without flows knows what was placed, and nothing that could be watched."""
    file = Path(variables["E2E_FOLDER"]) / "plan.json"
    file.write_text(json.dumps(PLAN | {"flows": []}))

    done = python("e2e.cli", command, env=variables)

    assert done.returncode == 4, done.stderr
    assert "nodeport-e2e prepare --remove" in done.stderr


@pytest.mark.parametrize("command", ["prepare", "verify", "compare"])
def test_help_needs_nothing(variables, command):
    done = python("e2e.cli", command, "--help", env=variables)

    assert done.returncode == 0
    assert "upgrade" in done.stdout or "Compare two runs" in done.stdout


def test_budgets_that_excuse_what_there_is_not_are_refused(variables, tmp_path):
    """A name that is mistyped would excuse nothing, and nobody would be told."""
    usual = (Path(__file__).parents[1] / "check" / "budgets.toml").read_text()
    for names, code in (('"addresses.localhost", "policy"', 3), ('"policy", "no.such-thing"', 4)):
        file = tmp_path / "budgets.toml"
        file.write_text(usual.replace("may_change = []", f"may_change = [{names}]"))

        done = python("e2e.cli", "verify", f"--budgets={file}", env=variables)

        assert done.returncode == code, done.stderr
        assert ("no clause and no topic is called no.such-thing" in done.stderr) == (code == 4)
