"""What is placed for an upgrade bears drains, and outlives whoever placed it."""

import pytest

from e2e.cluster import leftovers, namespace, workload
from e2e.cluster.node import Node
from e2e.cluster.workload import CONTROL_PLANE_TOO, SPECS, find, place, places, put_back, stored
from e2e.errors import CannotRunError, RefusedError, UsageError
from e2e.probe import ANSWERED, BLOCKED, Outside
from e2e.selftest.clusters import HOME, NODES, RUN, TAINT, FakeApi, FakePorts
from e2e.upgrade import expected
from e2e.upgrade.plan import Plan, load_plan
from e2e.upgrade.site import Site, demand_same


@pytest.fixture
def api():
    return FakeApi()


@pytest.fixture
def placed(api):
    return place(api, HOME, RUN, NODES, FakePorts())


def deployments(api):
    return [item for (kind, *_), item in api.objects.items() if kind == "Deployment"]


def test_what_is_placed_can_be_drained(api, placed):
    """No pod tolerates a cordon, each lingers, and a budget lets one go after another."""
    for item in deployments(api):
        spec = item["spec"]["template"]["spec"]
        assert spec["tolerations"] == []
        assert any(arg.startswith("--delay-shutdown=") for arg in spec["containers"][0]["args"])
        budget = api.get("PodDisruptionBudget", item["metadata"]["name"], HOME)["spec"]
        assert budget["maxUnavailable"] == 1
        assert budget["selector"] == item["spec"]["selector"]


def test_pods_are_spread_and_one_group_has_one_on_each_node(api, placed):
    evenly, one_a_node = deployments(api)

    (constraint,) = evenly["spec"]["template"]["spec"]["topologySpreadConstraints"]
    assert constraint["whenUnsatisfiable"] == "ScheduleAnyway", "a drain must find room"
    assert evenly["spec"]["replicas"] == 4
    assert "podAntiAffinity" in one_a_node["spec"]["template"]["spec"]["affinity"]
    assert one_a_node["spec"]["replicas"] == 2
    assert one_a_node["spec"]["strategy"]["rollingUpdate"]["maxSurge"] == 0


def test_where_a_node_is_gone_each_that_is_left_has_one(api, placed):
    """A pod for which there is no node would be waited for in vain."""
    del api.objects["Node", "", "worker-2"]

    evenly, one_a_node = find(api, HOME).groups.values()

    assert api.get("Deployment", one_a_node.name, HOME)["spec"]["replicas"] == 1
    assert api.get("Deployment", evenly.name, HOME)["spec"]["replicas"] == 4
    api.objects["Node", "", "worker-2"] = {"metadata": {"name": "worker-2"}, "spec": {}}
    find(api, HOME)
    assert api.get("Deployment", one_a_node.name, HOME)["spec"]["replicas"] == 2


def test_every_kind_of_service_is_there(api, placed):
    specs = {name: item["spec"] for name, item in stored(api, HOME).items()}

    assert list(specs) == list(SPECS)
    assert specs["local"]["externalTrafficPolicy"] == "Local"
    assert specs["affinity"]["sessionAffinity"] == "ClientIP"
    assert [port["protocol"] for port in specs["udp"]["ports"]] == ["UDP"]
    assert [port["protocol"] for port in specs["multi-port"]["ports"]] == ["TCP", "TCP", "UDP"]
    assert specs["fixed"]["ports"][0]["nodePort"] == 30085
    assert all("ipFamilyPolicy" not in spec for spec in specs.values())


def test_where_nodes_have_two_families_everything_is_asked_over_both(api):
    nodes = [
        Node(n.name, n.addresses | {"IPv6": f"fd00::{at}"}, n.is_control_plane)
        for at, n in enumerate(NODES)
    ]
    placed = place(api, HOME, RUN, nodes, FakePorts())
    flows = expected.watched(placed, nodes)

    assert {(flow.node, flow.address) for flow in flows} == {
        (node.name, address) for node in nodes for address in node.addresses.values()
    }
    assert len(flows) == 2 * len(
        expected.watched(place(FakeApi(), HOME, RUN, NODES, FakePorts()), NODES)
    )
    assert len(expected.of_all(placed, nodes, Outside())) == 2 * 8 * len(nodes)


@pytest.mark.parametrize("taints", [(TAINT,), ()])
def test_on_one_node_everything_stands_on_it(taints):
    """Also where it keeps other pods away; and nothing has to be blocked there."""
    nodes = NODES[:1]
    placed = place(FakeApi(nodes=nodes, taints=(taints,)), HOME, RUN, nodes, FakePorts())

    assert (len(placed.evenly.pods), len(placed.one_a_node.pods)) == (3, 1)
    flows = expected.watched(placed, nodes)
    assert {(flow.node, flow.expects) for flow in flows} == {("control-plane", "answered")}
    assert len(flows) == 8


def test_a_control_plane_is_used_only_where_there_is_nothing_else():
    assert places(FakeApi()) == (["worker", "worker-2"], ())
    assert places(FakeApi(cordoned=["worker"])) == (["worker-2"], ())
    everywhere = places(FakeApi(taints=((TAINT,), (TAINT,), ({**TAINT, "key": "gpu"},))))
    assert everywhere == (["control-plane", "worker"], CONTROL_PLANE_TOO)
    with pytest.raises(CannotRunError, match="every node"):
        places(FakeApi(cordoned=[node.name for node in NODES]))


def test_what_was_placed_is_found_again_whatever_was_done_to_it(api, placed):
    """The number of pods is the one that was placed, also after somebody scaled it."""
    for item in deployments(api):
        item["spec"]["replicas"] = 0

    found = find(api, HOME)

    assert len(found.evenly.pods) == 4
    assert len(found.one_a_node.pods) == 2
    assert found.services.keys() == SPECS.keys()
    assert found.services["local"].owner is found.one_a_node


def test_what_is_gone_is_named(api, placed):
    with pytest.raises(UsageError, match="no namespace elsewhere"):
        find(api, "elsewhere")
    api.delete("Deployment", placed.evenly.name, HOME)
    with pytest.raises(CannotRunError, match=f"evenly is gone from {HOME}"):
        find(api, HOME)


def test_who_is_stopped_puts_everything_back(api, placed):
    before = {name: dict(item["spec"]) for name, item in stored(api, HOME).items()}
    api.delete("Service", "fixed", HOME)
    api.change("Service", "cluster", {"spec": {"externalTrafficPolicy": "Local"}}, HOME)
    workload.make_service(placed, "new-abc", dual=False, like="cluster")
    deployments(api)[0]["spec"]["replicas"] = 0

    put_back(placed)

    assert "new-abc" not in {item["metadata"]["name"] for item in api.find_all("Service", HOME)}
    after = stored(api, HOME)
    assert after["fixed"]["spec"]["ports"] == before["fixed"]["ports"]
    assert after["cluster"]["spec"]["externalTrafficPolicy"] == "Cluster"
    assert deployments(api)[0]["spec"]["replicas"] == 4


def test_what_is_prepared_outlives_its_run_until_somebody_asks_for_its_end(api, placed):
    """A later run removes what dead runs left, but not this; `clean` does."""
    dead = f"{leftovers.host()}-999999999-abcdef"
    namespace.make(api, "nodeport-e2e-left", dead)
    namespace.make(api, "nodeport-e2e-kept", dead, kept=True)

    def removed(**how):
        return [
            each.name for each in leftovers.remove_in_cluster(api, leftovers.in_cluster(api, **how))
        ]

    assert removed() == ["nodeport-e2e-left"]
    assert removed(kept=True) == ["nodeport-e2e-kept"]
    (other,) = leftovers.in_cluster(api, kept=True)
    assert other.name == HOME
    assert "by another machine" in other.stays


def test_through_every_node_the_right_pods_are_expected(api, placed):
    outside = Outside()

    table = expected.of_all(placed, NODES, outside)

    assert len(table) == 8 * len(NODES)
    local = placed.services["local"]
    wants = {
        flow.target.name: want.outcomes
        for flow, want in table.items()
        if flow.target.port == local.node_port
    }
    assert wants == {"control-plane": BLOCKED, "worker": {ANSWERED}, "worker-2": {ANSWERED}}


def test_every_way_of_asking_is_watched_through_every_node(api, placed):
    flows = expected.watched(placed, NODES)

    assert {flow.node for flow in flows} == {node.name for node in NODES}
    assert {flow.way for flow in flows} == {
        *("new connections", "one connection"),
        *("UDP", "UDP from new ports"),
    }
    assert [flow.node for flow in flows if flow.expects == "blocked"] == ["control-plane"]
    assert all(placed.services[f.service].owner.owns(f"{f.pods}1a2b-0") for f in flows)


def plan(**more):
    said = {"run": RUN, "made": "2026-11-28T01:30:00Z", "cluster": "4b1d", "namespace": HOME}
    return Plan.model_validate(said | {"flows": []} | more)


def test_a_cluster_is_known_by_itself_and_not_by_its_name(api, tmp_path):
    """Whatever its context is called; another one is refused, with exit code 3."""
    here = Site(api, tmp_path / "kubeconfig", "any-name", None, is_ours=False, run=RUN)

    demand_same(here, plan())
    with pytest.raises(RefusedError, match="is another cluster") as caught:
        demand_same(here, plan(cluster="another"))
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("text", [None, "{", '{"format": 9}'])
def test_a_folder_without_a_plan_is_named(tmp_path, text):
    if text:
        (tmp_path / "plan.json").write_text(text)

    with pytest.raises(UsageError, match=str(tmp_path)) as caught:
        load_plan(tmp_path)

    assert "\n" not in caught.value.what


def test_a_plan_names_nothing_of_this_machine(tmp_path, placed):
    plan(flows=[flow.model_dump() for flow in expected.watched(placed, NODES)]).save(tmp_path)

    text = (tmp_path / "plan.json").read_text()

    assert str(tmp_path) not in text
    assert load_plan(tmp_path).flows == expected.watched(placed, NODES)
