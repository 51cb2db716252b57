"""Endpoints of Services without a selector, written by hand."""

from collections.abc import Mapping, Sequence

from e2e.cluster.api import Object
from e2e.cluster.echo import HTTP_PORT, Echo
from e2e.cluster.service import Service

# Of a pod by name: what an EndpointSlice says of its state.
Record = tuple[str, Mapping[str, bool]]


def endpoint_slice(
    service: Service, echo: Echo, family: str, number: int, records: Sequence[Record]
) -> Object:
    """An EndpointSlice that goes with its Service, with one endpoint for each record."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            **_named(service, f"{service.name}-{family.lower()}-{number}"),
            "labels": {"kubernetes.io/service-name": service.name},
        },
        "addressType": family,
        "ports": [{"name": "", "port": HTTP_PORT, "protocol": "TCP"}],
        "endpoints": [
            {
                "addresses": [echo.addresses[pod][family]],
                "conditions": dict(conditions),
                "nodeName": echo.pods[pod],
            }
            for pod, conditions in records
        ],
    }


def endpoints(service: Service, echo: Echo) -> Object:
    """An Endpoints object, the elder of the two kinds, with all pods of an echo as ready."""
    addresses = [{"ip": echo.addresses[pod][f]} for pod in echo.pods for f in service.families]
    return {
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": _named(service, service.name),
        "subsets": [{"addresses": addresses, "ports": [{"port": HTTP_PORT}]}],
    }


def _named(service: Service, name: str) -> Object:
    owner = {
        "apiVersion": "v1",
        "kind": "Service",
        "name": service.name,
        "uid": service.stored["metadata"]["uid"],
    }
    return {"name": name, "namespace": service.namespace, "ownerReferences": [owner]}
