"""Endpoints of Services without a selector, written by hand."""

from collections.abc import Mapping, Sequence
from typing import Any

from e2e.cluster.api import Object
from e2e.cluster.echo import HTTP_PORT, Echo
from e2e.cluster.service import Service

# By which an EndpointSlice says whose it is.
SERVICE_LABEL = "kubernetes.io/service-name"
# Of a pod by name: what an EndpointSlice says of its state.
Record = tuple[str, Mapping[str, bool]]


def endpoint_slice(
    service: Service,
    echo: Echo,
    family: str,
    records: Sequence[Record],
    *,
    ports: Mapping[str, int] | None = None,
) -> Object:
    """An EndpointSlice that goes with its Service, with one endpoint for each record.

    Args:
        service: whose it is.
        echo: whose pods the records are about.
        family: of the addresses.
        records: what it says of which pods.
        ports: target ports by the names of the Service's ports; that of an echo for the port
            without a name by default.
    """
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            **_going_with(service),
            "generateName": f"{service.name}-",
            "labels": {SERVICE_LABEL: service.name},
        },
        "addressType": family,
        "ports": [
            {"name": name, "port": number, "protocol": "TCP"}
            for name, number in (ports or {"": HTTP_PORT}).items()
        ],
        "endpoints": [_endpoint(echo, family, *record) for record in records],
    }


def _endpoint(echo: Echo, family: str, pod: str, conditions: Mapping[str, bool]) -> dict[str, Any]:
    endpoint = {"addresses": [echo.addresses[pod][family]], "conditions": dict(conditions)}
    # Who is off the cluster is on no node.
    return endpoint | ({"nodeName": echo.pods[pod]} if echo.pods[pod] else {})


def endpoints(service: Service, echo: Echo) -> Object:
    """An Endpoints object, the elder of the two kinds, with all pods of an echo as ready."""
    addresses = [{"ip": echo.addresses[pod][f]} for pod in echo.pods for f in service.families]
    return {
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {**_going_with(service), "name": service.name},
        "subsets": [{"addresses": addresses, "ports": [{"port": HTTP_PORT}]}],
    }


def _going_with(service: Service) -> Object:
    owner = {
        "apiVersion": "v1",
        "kind": "Service",
        "name": service.name,
        "uid": service.stored["metadata"]["uid"],
    }
    return {"namespace": service.namespace, "ownerReferences": [owner]}
