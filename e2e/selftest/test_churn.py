"""The churn: what is done, what has to be served after each step, and what becomes of failures."""

from dataclasses import replace
from functools import partial

import pytest

from e2e.check.table import NotSettledError
from e2e.check.wrong import Wrong
from e2e.cluster import workload as workloads
from e2e.cluster.api import ApiRefusedError
from e2e.cluster.workload import SPECS, place
from e2e.errors import CannotRunError
from e2e.probe import ANSWERED, REFUSED, Flow, Outside, Target
from e2e.provider.steps import Steps
from e2e.selftest.clusters import HOME, NODES, RUN, FakeApi, FakePorts
from e2e.upgrade import churn as churning
from e2e.upgrade.churn import Churn
from e2e.upgrade.site import Site
from e2e.wait import WaitedInVainError

FLOW = Flow(Outside(), Target("worker", "10.0.0.2", 30080, None))


@pytest.fixture
def asked(monkeypatch):
    """What was asserted, step by step, instead of asking anybody."""
    tables = []
    monkeypatch.setattr(churning, "assert_serves", lambda table, **_: tables.append(table))
    return tables


@pytest.fixture
def churn():
    return a_churn()


# The same nodes with an address of each IP family.
BOTH = tuple(
    replace(node, addresses=node.addresses | {"IPv6": f"fd00::{at}"})
    for at, node in enumerate(NODES)
)


def a_churn(nodes=NODES, through=None):
    """The churn of what was just placed on these nodes, and is called through these."""
    api = FakeApi(nodes=nodes)
    placed = place(api, HOME, RUN, nodes, FakePorts())
    site = Site(api, "", "a", None, is_ours=False, run=RUN)
    return Churn(site, placed, through or nodes, "it is not ours", Steps(quiet=True))


def by_step(churn, asked):
    """The ports that have to be answered, and those that must not be, by the step."""
    held = [step.name for step in churn.done if step.ended == "held"]
    assert len(held) == len(asked)
    return {
        name: (
            {flow.target.port for flow, want in table.items() if ANSWERED in want.outcomes},
            {flow.target.port for flow, want in table.items() if ANSWERED not in want.outcomes},
        )
        for name, table in zip(held, asked, strict=True)
    }


def numbers(churn, *names):
    services = churn.workload.services
    return {
        port["nodePort"]
        for name in names or SPECS
        for port in services[name].stored["spec"]["ports"]
    }


def test_everything_is_done_and_everything_is_asked_after_it(churn, asked):
    done = churn.run()

    assert {step.ended for step in done} == {"held", "left out"}
    assert [step.name for step in done if step.ended == "left out"] == [
        "kube-proxy restarted on every node"
    ]
    steps = by_step(churn, asked)
    for name in ("everything as it was found", "everything once more"):
        assert steps[name][0] == numbers(churn)


def test_over_two_families_each_step_asks_both(asked):
    churn = a_churn(BOTH)

    assert {step.ended for step in churn.run()} == {"held", "left out"}
    assert all(
        sum(":" in flow.target.address for flow in table) == len(table) / 2 for table in asked
    )


def test_a_node_that_lost_an_ip_family_is_a_step_that_failed(asked):
    """And all else is still asked of it."""
    done = a_churn(BOTH, through=(*BOTH[:-1], NODES[-1])).run()

    (failed,) = (step for step in done if step.ended == "failed")
    assert failed.said == f"{NODES[-1]} has no IPv6 address, and there are Services of that family"
    assert {len(table) for table in asked}.isdisjoint({0})


def test_where_nobody_is_left_nobody_may_answer_and_others_still_do(churn, asked):
    churn.run()

    steps = by_step(churn, asked)
    local = numbers(churn, "local")
    # The Local Service is blocked at the control plane, which never had a pod.
    assert steps["the pods of Cluster Services scaled to zero"] == (local, numbers(churn))
    assert steps["the pods of the Local Service scaled to zero"] == (
        numbers(churn) - local,
        local,
    )


def test_a_port_that_was_given_back_is_closed_beside_one_that_answers(churn, asked):
    churn.run()

    steps = by_step(churn, asked)
    fixed, stays = numbers(churn, "fixed"), numbers(churn, "cluster")
    assert steps["a watched Service deleted"] == (stays, fixed)
    assert steps["and made again with its number"] == (fixed, set())
    new, old = steps["its node port given back, and another one picked"]
    assert len(new) == len(old) == 1
    assert new.isdisjoint(old)


def test_nothing_of_it_is_left(churn, asked):
    before = {name: service.stored["spec"] for name, service in churn.workload.services.items()}

    churn.run()

    after = workloads.stored(churn.site.api, HOME)
    assert {item["metadata"]["name"] for item in churn.site.api.find_all("Service", HOME)} == set(
        SPECS
    )
    for name, spec in before.items():
        assert after[name]["spec"]["ports"] == spec["ports"]
        assert after[name]["spec"]["externalTrafficPolicy"] == spec["externalTrafficPolicy"]


@pytest.mark.parametrize(
    ("error", "ended"),
    [
        (NotSettledError("not settled\nx a flow", [Wrong(FLOW, REFUSED)]), "failed"),
        (WaitedInVainError("waited in vain"), "broken"),
        (CannotRunError("the API server does not answer"), "broken"),
    ],
)
def test_a_step_that_goes_wrong_is_noted_and_the_next_is_done(monkeypatch, churn, error, ended):
    monkeypatch.setattr(churning, "reasons_of", lambda *_: ([], ["a rule of before"]))

    patience = []

    def assert_serves(table, *, within):
        patience.append(within)
        raise error

    monkeypatch.setattr(churning, "assert_serves", assert_serves)

    done = churn.run()

    assert {step.ended for step in done} == {ended, "left out"}
    assert len(done) > 10
    assert str(error) in done[0].said
    assert ("why: a rule of before" in done[0].said) == (ended == "failed")
    assert "why:" not in done[1].said, "of each node it is found out once"
    assert (patience[1] < patience[0]) == (ended == "failed")


def test_what_a_refused_service_would_have_undergone_is_told(monkeypatch, churn, asked):
    """A step that cannot be done is left out with its reason, and does not vanish."""
    usual = [step.name for step in churn.run()]
    churn.done.clear()

    def make_service(*_args, **_options):
        raise ApiRefusedError("create", {"message": "not now", "code": 403})

    monkeypatch.setattr(churning, "make_service", make_service)
    churn._new_service()

    new = usual[usual.index("a new Service") :][: len(churn.done)]
    assert [step.name for step in churn.done] == new
    assert [step.ended for step in churn.done] == ["broken"] + ["left out"] * 5


def test_who_is_stopped_leaves_it_as_it_was(monkeypatch, churn):
    """Ctrl-C while there are no pods ends the churn, and the pods come back."""

    def assert_serves(table, *, within):
        if len(churn.done) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(churning, "assert_serves", assert_serves)

    with pytest.raises(KeyboardInterrupt):
        churn.run()

    counts = [item["spec"]["replicas"] for item in churn.site.api.find_all("Deployment", HOME)]
    assert counts == [4, 2]


def test_what_a_killed_verify_had_changed_is_put_back_by_the_next(monkeypatch, churn, asked):
    """Whenever it was killed; or the upgrade would be blamed for what verify itself did."""
    churn.run()
    assert not workloads.is_churned(churn.site.api, HOME)
    assert len(asked) > 15
    for last in range(len(asked)):
        killed = a_churn()
        api, before = killed.site.api, workloads.stored(killed.site.api, HOME)
        with monkeypatch.context() as patched:
            kill = partial(kill_at, iter(range(last + 1)), last)
            patched.setattr(churning, "assert_serves", kill)
            # Nobody who is killed puts anything back.
            patched.setattr(churning.workloads, "put_back", lambda _: None)
            with pytest.raises(KeyboardInterrupt):
                killed.run()

        assert workloads.is_churned(api, HOME)
        workloads.recover(api, HOME, before)

        assert not workloads.is_churned(api, HOME)
        assert said(workloads.stored(api, HOME)) == said(before)
        assert len(api.find_all("Service", HOME)) == len(SPECS)
        counts = [item["spec"]["replicas"] for item in api.find_all("Deployment", HOME)]
        assert counts == [4, 2]


def said(services):
    """What Services say; it is the same to say what is the default, and to say nothing."""
    return {
        name: {key: value for key, value in each["spec"].items() if value != "None"}
        for name, each in services.items()
    }


def kill_at(calls, last, _table, *, within):
    if next(calls) == last:
        raise KeyboardInterrupt


def test_what_is_not_there_is_a_step_that_cannot_be_judged(monkeypatch, churn):
    monkeypatch.setattr(Site, "nodes", lambda _: NODES)
    api = churn.site.api
    api.delete("Deployment", churn.workload.evenly.name, HOME)

    (step,) = churning.churn(churn.site, HOME, Steps(quiet=True), proxy_stays="")

    assert step.ended == "broken"
    assert "evenly is gone" in step.said


def test_a_service_that_is_gone_is_a_failure(monkeypatch, churn):
    monkeypatch.setattr(Site, "nodes", lambda _: NODES)
    churn.site.api.delete("Service", "local", HOME)

    (step,) = churning.churn(churn.site, HOME, Steps(quiet=True), proxy_stays="")

    assert (step.ended, step.said) == ("failed", "Services that were prepared are gone: local")
