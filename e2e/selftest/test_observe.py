"""What a run of the contract is worth as a part of a fingerprint."""

from types import SimpleNamespace

import pytest

from e2e.errors import CannotRunError
from e2e.provider.steps import Steps
from e2e.report.clauses import choose
from e2e.report.junit import write_cases
from e2e.selftest.runs import held, run
from e2e.upgrade import observe

SITE = SimpleNamespace(api=SimpleNamespace(kubeconfig="config"), context="c")


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """What is seen of a run that comes to these clauses."""

    def ask(*clauses, code, only="reach"):
        def instead(argv, _):
            (out,) = (word.removeprefix("--out=") for word in argv if word.startswith("--out="))
            (tmp_path / "out").mkdir(exist_ok=True)
            write_cases(run(*map(held, clauses)), tmp_path / "out" / "junit.xml")
            assert out == str(tmp_path / "out")
            return code

        monkeypatch.setattr(observe, "run_to_its_end", instead)
        steps = Steps(quiet=True)
        return observe.ask_contract(SITE, tmp_path / "out", steps, only=only, processes=0)

    return ask


def test_a_run_that_ended_early_knows_nothing_of_what_it_did_not_come_to(asked):
    """As when a node is not Ready; nobody may take that for behaviours that are gone."""
    every = [clause.id for clause in choose("reach", None, ours=False)]
    seen = asked(every[0], code=2)

    assert [each.clause for each in seen] == every
    assert [each.ended for each in seen] == ["held", *["broken"] * (len(every) - 1)]
    assert "before it came to this clause (exit code 2)" in seen[1].said


def test_it_is_nothing_to_begin_with(asked):
    """A fingerprint of before cannot be taken again afterwards."""
    every = [clause.id for clause in choose("reach", None, ours=False)]
    observe.demand_whole(asked(*every, code=0))

    with pytest.raises(CannotRunError, match=f"1 of {len(every)} clauses were asked"):
        observe.demand_whole(asked(every[0], code=2))
