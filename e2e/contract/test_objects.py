"""A Service as an object: rehearsed, sent again, applied, found, watched, deleted with others."""

import pytest

from e2e.check import assert_absent, assert_accepted, assert_invalid

AB = [{"name": "a", "port": 80}, {"name": "b", "port": 81}]
TCP, UDP = {"name": "tcp", "port": 53}, {"name": "udp", "port": 53, "protocol": "UDP"}


@pytest.mark.clause("objects.rehearsed", covers=["API-21"])
def test_a_dry_run_keeps_nothing(rehearse, rehearse_change, submit, stored, home, ports):
    """A dry run answers as if it were serious, and stores and reserves nothing.

    A node port that is taken is refused. One that was rehearsed, at create or at update, is free
    for others, and one that was given up in a rehearsal is not.
    """
    taken, number, another = ports.free(), ports.free(), ports.free()
    service = assert_accepted(submit(ports=with_number(taken)))

    picked = assert_accepted(rehearse(name="rehearsed"))
    chosen = assert_accepted(rehearse(ports=with_number(number)))
    changed = assert_accepted(rehearse_change(service, ports=with_number(another)))
    given_up = assert_accepted(rehearse_change(service, type="ClusterIP"))

    assert picked["spec"]["ports"][0]["nodePort"] > 0
    assert picked["spec"]["clusterIP"] != "None"
    assert numbers(chosen) + numbers(changed) == [number, another]
    assert "nodePort" not in given_up["spec"]["ports"][0]
    says = "provided port is already allocated"
    for ask in (rehearse, submit):
        assert_invalid(ask(ports=with_number(taken)), "spec.ports[0].nodePort", says)
    assert_absent(stored("rehearsed", home))
    assert stored(service["metadata"]["name"], home)["spec"] == service["spec"]
    assert_accepted(submit(ports=with_number(number)))
    assert_accepted(submit(ports=with_number(another)))


def with_number(number):
    """One port with this node port."""
    return [{"port": 80, "nodePort": number}]


def numbers(service):
    """The node ports of a Service, in its own order."""
    return [port["nodePort"] for port in service["spec"]["ports"]]


@pytest.mark.clause("objects.sent-again", covers=["API-22"])
def test_sending_the_manifest_again_changes_nothing(submit, replace, apply, apply_by_client):
    """The first manifest, sent again without what was allocated, changes nothing.

    That holds for replace, apply on the server and apply by the client. A node port belongs to the
    name of its port: it moves with the name, and a port with a new name gets another one.
    """
    before = assert_accepted(submit(ports=AB))
    first, second = numbers(before)

    for send in (replace, apply, apply_by_client):
        after = assert_accepted(send(before, ports=AB))
        assert after["spec"] == before["spec"], send

    swapped = [{"name": "b", "port": 80}, {"name": "a", "port": 81}]
    assert numbers(assert_accepted(replace(before, ports=swapped))) == [second, first]
    renamed = [{"name": "new", "port": 80}, {"name": "a", "port": 81}]
    new, kept = numbers(assert_accepted(replace(before, ports=renamed)))
    assert kept == first
    assert new not in (first, second)


@pytest.mark.clause("objects.applied-on-the-server", covers=["API-23"])
def test_apply_on_the_server_knows_protocols(apply):
    """Applied on the server's side, ports of one number are told apart by protocol.

    One of them can be changed, taken away and added again, and the other one stays as it was.
    """
    tcp, udp = assert_accepted(made := apply(ports=[TCP, UDP]))["spec"]["ports"]

    elsewhere = UDP | {"targetPort": 5353}
    for ports in ([TCP, elsewhere], [TCP], [TCP, UDP]):
        after = assert_accepted(apply(made, ports=ports))["spec"]["ports"]

        assert after[0] == tcp
        assert len(after) == len(ports)
        for entry, wanted in zip(after, ports, strict=True):
            assert wanted.items() <= entry.items()
    assert udp["nodePort"] == tcp["nodePort"]


@pytest.mark.clause("objects.applied-by-the-client", covers=["API-23"])
@pytest.mark.family("extended")
@pytest.mark.known_bug("https://github.com/kubernetes/kubernetes/issues/105610")
def test_apply_by_the_client_loses_a_protocol(submit, apply_by_client, replace):
    """Applied by the client, which knows ports by number alone, the second protocol replaces one.

    Of a TCP and a UDP port of one number one is left; by replace there are both.
    """
    stored = assert_accepted(submit(ports=[TCP]))

    merged = assert_accepted(apply_by_client(stored, ports=[TCP, UDP]))
    replaced = assert_accepted(replace(stored, ports=[TCP, UDP]))

    assert [port["protocol"] for port in merged["spec"]["ports"]] == ["UDP"]
    assert [port["protocol"] for port in replaced["spec"]["ports"]] == ["TCP", "UDP"]


@pytest.mark.clause("objects.found", covers=["API-24"])
def test_services_are_found_across_namespaces(submit, found, home, another_namespace):
    """A field selector finds Services of a type, and the one of a ClusterIP, in all namespaces."""
    away = another_namespace()
    here, there = (assert_accepted(submit(name="found", namespace=n)) for n in (home, away))
    inner = assert_accepted(submit(name="inner", type="ClusterIP"))

    for where, ours in (
        ("spec.type=NodePort", {(home, "found"), (away, "found")}),
        ("spec.type=ClusterIP", {(home, "inner")}),
        (f"spec.clusterIP={here['spec']['clusterIP']}", {(home, "found")}),
        (f"spec.clusterIP={there['spec']['clusterIP']}", {(away, "found")}),
        (f"metadata.name=inner,spec.clusterIP={inner['spec']['clusterIP']}", {(home, "inner")}),
    ):
        every = {(home, "found"), (away, "found"), (home, "inner")}
        assert found(where) & every == ours, where
        assert found(where, away) == {name for name in ours if name[0] == away}, where


@pytest.mark.clause("objects.status", covers=["API-24"])
def test_the_status_is_apart(submit, report, stored, home):
    """Conditions are written to the status, and nothing of the spec on that way.

    A NodePort Service takes no ingress of a load balancer; a change of the spec keeps the status.
    """
    before = assert_accepted(submit())
    seen = {"type": "Seen", "status": "True", "reason": "Seen", "message": "by a clause",
            "lastTransitionTime": "2026-01-01T00:00:00Z"}  # fmt: skip

    refused = report(before, {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}})
    after = assert_accepted(report(before, {"conditions": [seen]}, spec={"type": "ClusterIP"}))

    assert_invalid(refused, "status.loadBalancer.ingress", "may only be used when `spec.type`")
    assert after["status"]["conditions"] == [seen]
    assert after["spec"] == before["spec"]
    kept = stored(before["metadata"]["name"], home)
    assert (kept["status"], kept["spec"]) == (after["status"], before["spec"])


@pytest.mark.clause("objects.watched", covers=["API-24"])
def test_a_watch_tells_of_each_change(
    submit, change, stored, delete_every, told_since, another_namespace
):
    """Creation, change and end of Services are told in order, and all go by one deletion."""
    away = another_namespace()
    first = assert_accepted(submit(name="first", namespace=away))
    assert_accepted(submit(name="second", namespace=away))
    assert_accepted(change(first, sessionAffinity="ClientIP"))

    delete_every(away)

    told = [(event["type"], event["object"]["metadata"]["name"]) for event in told_since(first, 4)]
    assert told[:2] == [("ADDED", "second"), ("MODIFIED", "first")]
    assert sorted(told[2:]) == [("DELETED", "first"), ("DELETED", "second")]
    for name in ("first", "second"):
        assert_absent(stored(name, away))
