"""What changed between two fingerprints: each field with its path, and whether it counts."""

import json

import pytest

from e2e.check.differences import (
    changed_allocations,
    changed_defaults,
    changed_objects,
    changed_setup,
    changed_versions,
    differences,
)
from e2e.check.fingerprint import Fingerprint
from e2e.errors import UsageError
from e2e.selftest.fingerprints import HOME, content, facts, fingerprint, node, service


def paths(before, after):
    return {each.path: (each.before, each.after) for each in differences(before, after)}


def told(changes):
    return {(each.about, each.field, each.before, each.after, each.counts) for each in changes}


def test_what_is_alike_has_no_difference():
    assert paths(content(), content()) == {}


def test_a_field_is_named_by_its_path():
    before, after = service("a", 30080), service("a", 30080)
    after["spec"]["externalTrafficPolicy"] = "Local"
    del after["spec"]["selector"]
    after["metadata"]["labels"] = {"x": "y"}

    assert paths(before, after) == {
        "spec.externalTrafficPolicy": ("Cluster", "Local"),
        "spec.selector": ({"echo": "echo-abcdef"}, None),
        "metadata.labels": (None, {"x": "y"}),
    }


def test_entries_of_a_list_are_matched_by_name_and_not_by_place():
    before = {"ports": [{"name": "http", "nodePort": 1}, {"name": "udp", "nodePort": 2}]}
    after = {"ports": [{"name": "udp", "nodePort": 3}, {"name": "http", "nodePort": 1}]}

    assert paths(before, after) == {"ports[udp].nodePort": (2, 3)}


def test_entries_without_a_name_are_matched_by_place():
    assert paths({"ports": [{"port": 1}]}, {"ports": [{"port": 1}, {"port": 2}]}) == {
        "ports[1]": (None, {"port": 2})
    }


def test_a_list_of_words_is_compared_as_a_whole():
    assert paths({"ips": ["a", "b"]}, {"ips": ["b", "a"]}) == {"ips": (["a", "b"], ["b", "a"])}


def test_a_clean_upgrade_changes_versions_and_nothing_that_counts():
    before, after = fingerprint(), fingerprint(content("v1.37.2"))

    assert changed_allocations(before, after) == []
    assert changed_objects(before, after, HOME) == []
    assert changed_defaults(before, after) == []
    assert changed_setup(before, after) == []
    assert told(changed_versions(before, after)) == {
        ("API server", "", "v1.36.3", "v1.37.2", False),
        ("node worker", "kubelet", "v1.36.3", "v1.37.2", False),
        ("kube-proxy", "", "kube-proxy:v1.36.3", "kube-proxy:v1.37.2", False),
    }


@pytest.mark.parametrize(
    ("of", "field", "value", "what", "before", "after"),
    [
        ("shop/shop", "ports", [], "node port of 80/TCP", "31000", "nothing"),
        ("shop/shop", "clusterIPs", ["10.96.0.7"], "ClusterIP", "10.96.0.9", "10.96.0.7"),
        (f"{HOME}/cluster", "healthCheckNodePort", 32000, "health-check node port", "nothing",
         "32000"),
    ],
)  # fmt: skip
def test_a_number_that_was_lost_counts_whoever_s_it_was(of, field, value, what, before, after):
    said = content()
    said["services"][of]["spec"] = {**said["services"][of]["spec"], field: value}

    changes = changed_allocations(fingerprint(), fingerprint(said))

    assert told(changes) == {(f"Service {of}", what, before, after, True)}


def test_a_service_that_was_made_anew_has_other_numbers_by_right():
    said = content()
    anew = service("shop", 31999)
    anew["metadata"]["uid"] = "uid-anew"
    said["services"]["shop/shop"] = facts(anew)
    before, after = fingerprint(), fingerprint(said)

    assert changed_allocations(before, after) == []
    assert told(changed_objects(before, after, HOME)) == {
        ("Service shop/shop", "", "uid uid-shop", "uid uid-anew, made anew", False)
    }


def test_others_services_are_told_of_and_do_not_count():
    said = content()
    del said["services"]["shop/shop"]
    said["services"]["shop/new"] = facts(service("new", 31001))

    changes = changed_objects(fingerprint(), fingerprint(said), HOME)

    assert told(changes) == {
        ("Service shop/shop", "", "was there", "is gone", False),
        ("Service shop/new", "", "was not there", "is there", False),
    }


def test_of_prepared_services_every_field_is_told_and_who_wrote_last_does_not_count():
    said = content()
    stored = said["prepared"]["cluster"]
    stored["metadata"] |= {"resourceVersion": "101", "annotations": {"a": "b"}}
    stored["metadata"]["managedFields"][0]["operation"] = "Apply"
    stored["spec"]["externalTrafficPolicy"] = "Local"
    about = f"Service {HOME}/cluster"

    changes = changed_objects(fingerprint(), fingerprint(said), HOME)

    assert told(changes) == {
        (about, "metadata.resourceVersion", "100", "101", False),
        (about, "metadata.managedFields[OpenAPI-Generator].operation", "Update", "Apply", False),
        (about, "metadata.annotations", "nothing", '{"a": "b"}', True),
        (about, "spec.externalTrafficPolicy", "Cluster", "Local", True),
    }


def test_what_an_earlier_churn_made_again_is_another_object_by_right():
    said = content()
    stored = said["prepared"]["cluster"]
    stored["metadata"] |= {"uid": "uid-anew", "annotations": {"nodeport-e2e/made-again": "yes"}}
    stored["spec"]["sessionAffinity"] = "ClientIP"

    changes = changed_objects(fingerprint(), fingerprint(said), HOME, ["cluster"])

    assert {each.field: each.counts for each in changes} == {
        "metadata.uid": False,
        "metadata.annotations": False,
        "spec.sessionAffinity": True,
    }


def test_what_an_earlier_churn_made_again_has_to_have_its_number():
    """Another address is its right, another node port is not: that one was asked for."""
    name = f"{HOME}/cluster"
    said = content()
    said["services"][name]["uid"] = "uid-anew"
    spec = said["services"][name]["spec"]
    number = spec["ports"][0]["nodePort"]
    spec["clusterIPs"] = ["10.96.77.77"]

    assert changed_allocations(fingerprint(), fingerprint(said), [name]) == []
    spec["ports"][0]["nodePort"] = number + 1
    assert changed_allocations(fingerprint(), fingerprint(said)) == []
    (change,) = changed_allocations(fingerprint(), fingerprint(said), [name])
    assert (change.before, change.after, change.counts) == (str(number), str(number + 1), True)


def test_a_prepared_service_that_is_gone_counts():
    said = content()
    said["prepared"] = {}

    changes = changed_objects(fingerprint(), fingerprint(said), HOME)

    assert told(changes) == {(f"Service {HOME}/cluster", "", "was there", "is gone", True)}


def test_a_flipped_default_counts():
    said = content()
    said["defaults"]["NodePort"]["sessionAffinity"] = "ClientIP"

    (change,) = changed_defaults(fingerprint(), fingerprint(said))

    assert str(change) == ("default of a new Service (NodePort): sessionAffinity: None -> ClientIP")
    assert change.counts


def test_of_nodes_and_configuration_counts_what_takes_something_away():
    said = content()
    said["nodes"]["worker"]["addresses"] = ["InternalIP 172.18.0.9"]
    said["nodes"]["worker"]["conditions"]["Ready"] = "Unknown"
    said["nodes"]["worker"]["taints"] = ["a=b:NoSchedule"]
    said["nodes"]["worker-2"] = node("v1.36.3")
    said["proxy_mode"], said["proxy"] = "nftables", {"mode": "nftables", "nodePortAddresses": []}
    said["flags"]["service-node-port-range"]["control-plane"] = "30000-31000"
    said["flags"]["feature-gates"] = {"control-plane": "A=true"}

    changes = changed_setup(fingerprint(), fingerprint(said))

    assert {(each.about, each.field): each.counts for each in changes} == {
        ("node worker", "addresses"): True,
        ("node worker", "conditions.Ready"): True,
        ("node worker", "taints"): False,
        ("node worker-2", ""): False,
        ("kube-proxy", "mode"): False,
        ("kube-proxy", "nodePortAddresses"): False,
        ("API server", "--service-node-port-range"): True,
        ("API server", "--feature-gates"): False,
    }


def test_components_that_differ_between_nodes_are_told_apart():
    said = content()
    said["components"]["kube-proxy"]["worker-2"] = "registry.k8s.io/kube-proxy:v1.35.1"

    (change,) = changed_versions(fingerprint(), fingerprint(said))

    assert change.after == "kube-proxy:v1.36.3 on worker, kube-proxy:v1.35.1 on worker-2"


def test_a_fingerprint_is_read_back_as_it_was(tmp_path):
    fingerprint().save(tmp_path / "before.json")

    assert Fingerprint.load(tmp_path / "before.json") == fingerprint()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "is no fingerprint: the whole: Invalid JSON"),
        ("[]", "is no fingerprint: the whole: Input should be an object"),
        (json.dumps({"format": 2}), "is no fingerprint: format: Input should be 1; taken: Field"),
        ("\xff", "is no fingerprint"),
    ],
)
def test_a_file_that_is_none_is_named_with_what_is_wrong(tmp_path, text, says):
    file = tmp_path / "before.json"
    file.write_text(text)

    with pytest.raises(UsageError) as caught:
        Fingerprint.load(file)

    assert f"{file} {says}" in caught.value.what
    assert "\n" not in caught.value.what


def test_what_changed_alike_on_every_node_is_told_once():
    before, after = content(), content("v1.37.2")
    for said, version in ((before, "v1.36.3"), (after, "v1.37.2")):
        said["nodes"]["worker-2"] = node(version)
    after["nodes"]["worker-2"]["versions"]["kernel"] = "6.2.0"

    changes = changed_versions(fingerprint(before), fingerprint(after))

    assert [(each.about, each.field) for each in changes][1:3] == [
        ("every node", "kubelet"),
        ("node worker-2", "kernel"),
    ]
