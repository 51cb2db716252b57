"""EndpointSlices that clauses write by hand."""

import pytest

from e2e.cluster.echo import Echo
from e2e.cluster.endpoints import SERVICE_LABEL, endpoint_slice
from e2e.cluster.service import Service

READY = {"ready": True}
POD = Echo(None, "", "home", {}, {"pod": "worker"}, {"pod": {"IPv4": "10.0.0.1", "IPv6": "fd::1"}})  # type: ignore[arg-type]
SERVER = Echo(None, "", "home", {}, {"server": ""}, {"server": {"IPv4": "172.18.0.9"}})  # type: ignore[arg-type]
SERVICE = Service(
    None,  # type: ignore[arg-type]
    POD,
    {
        "metadata": {"name": "web", "namespace": "home", "uid": "1-2-3"},
        "spec": {"ipFamilies": ["IPv4", "IPv6"]},
    },
)


def test_a_slice_belongs_to_its_service_and_goes_with_it():
    """It is found by the label and removed with its owner; its name is nobody else's."""
    about = endpoint_slice(SERVICE, POD, "IPv4", [("pod", READY)])["metadata"]

    assert about["labels"] == {SERVICE_LABEL: "web"}
    assert [(owner["kind"], owner["uid"]) for owner in about["ownerReferences"]] == [
        ("Service", "1-2-3")
    ]
    assert about["generateName"] == "web-"
    assert "name" not in about


def test_only_who_is_on_a_node_is_said_to_be():
    """The API server refuses an empty name of a node."""
    (pod,) = endpoint_slice(SERVICE, POD, "IPv6", [("pod", READY)])["endpoints"]
    (server,) = endpoint_slice(SERVICE, SERVER, "IPv4", [("server", READY)])["endpoints"]

    assert (pod["addresses"], pod["nodeName"]) == (["fd::1"], "worker")
    assert server["addresses"] == ["172.18.0.9"]
    assert "nodeName" not in server


class Written(list):
    """An API that keeps what is created: by family, ports and conditions."""

    def create(self, manifest: dict) -> None:
        self.append(
            (
                manifest["addressType"],
                [(port["name"], port["port"]) for port in manifest["ports"]],
                [endpoint["conditions"] for endpoint in manifest["endpoints"]],
            )
        )


@pytest.fixture
def api():
    """In the place of the one that asks a cluster."""
    return Written()


def test_all_pods_are_written_as_ready_by_default(api, write_slices):
    """There is a slice in each family of the Service, or in those that are named."""
    write_slices(SERVICE, POD)
    write_slices(SERVICE, POD, ports={"a": 1, "b": 2}, families=["IPv4"])

    assert api == [
        ("IPv4", [("", 8080)], [READY]),
        ("IPv6", [("", 8080)], [READY]),
        ("IPv4", [("a", 1), ("b", 2)], [READY]),
    ]


def test_each_list_of_records_is_a_slice(api, write_slices):
    """A pod may be in it twice, and a slice may be empty."""
    gone = {"ready": False}

    write_slices(SERVICE, POD, [("pod", READY), ("pod", gone)], [], families=["IPv6"])

    assert api == [("IPv6", [("", 8080)], [READY, gone]), ("IPv6", [("", 8080)], [])]
