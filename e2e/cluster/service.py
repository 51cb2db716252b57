"""Services under test, and the flows that lead to them."""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from e2e.cluster.api import Api, ApiRefusedError, Object
from e2e.cluster.crowd import Crowd
from e2e.cluster.node import Node
from e2e.probe import TCP, Flow, HealthPort, Owner, Target, Vantage

# How an API server answers what it will not have, whoever asks.
UNWANTED = (400, 422)


@dataclass
class Service:
    """A Service under test.

    Attributes:
        owner: whose pods may answer for it.
        stored: the object as the API server last returned it.
        asked: when what it is now was asked for, by `time.monotonic`.
    """

    api: Api
    owner: Owner
    stored: Object
    asked: float = field(default_factory=time.monotonic)

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.stored["metadata"]["name"])

    @property
    def namespace(self) -> str:
        """Where it lives."""
        return str(self.stored["metadata"]["namespace"])

    @property
    def node_port(self) -> int:
        """The node port of its first port."""
        return int(self.stored["spec"]["ports"][0]["nodePort"])

    @property
    def node_ports(self) -> dict[str, int]:
        """The node port of each named port."""
        return {port["name"]: port["nodePort"] for port in self.stored["spec"]["ports"]}

    def seen_from(
        self,
        caller: Vantage,
        *,
        via: Node,
        port: int | None = None,
        family: str | None = None,
        protocol: str | None = None,
    ) -> Flow:
        """The flow from a caller to one node's address and a node port.

        Args:
            caller: who calls.
            via: whose address is called.
            port: the node port; that of the first port by default.
            family: over which; the Service's first by default.
            protocol: TCP or UDP; that of the port by default.
        """
        family = family or self.families[0]
        name = via.name if family == self.families[0] else f"{via} ({family})"
        number = port or self.node_port
        spoken = protocol or self._entry("nodePort", number).get("protocol", TCP)
        return Flow(caller, Target(name, via.addresses[family], number, self.owner, spoken))

    def flows(
        self,
        caller: Vantage,
        *,
        via: Iterable[Node],
        port: int | None = None,
        protocol: str | None = None,
    ) -> list[Flow]:
        """The flows from a caller through each node, over each IP family of the Service."""
        return [
            self.seen_from(caller, via=node, port=port, family=family, protocol=protocol)
            for node in via
            for family in self.families
        ]

    def flows_of_each(
        self, callers: Crowd, *, via: Iterable[Node], port: int | None = None
    ) -> list[Flow]:
        """The flows from each of many callers through each node, over each IP family."""
        return [
            self.seen_from(caller, via=node, port=port, family=family)
            for node in via
            for family in self.families
            for caller in callers.vantages(family)
        ]

    def cluster_flows(self, caller: Vantage, *, port: int | None = None) -> list[Flow]:
        """The flows from a caller to each ClusterIP and one of its ports, the first by default."""
        entry = self._entry("port", port)
        number, protocol = port or int(entry["port"]), entry.get("protocol", TCP)
        return [
            Flow(caller, Target(f"ClusterIP {address}", address, number, self.owner, protocol))
            for address in self.stored["spec"]["clusterIPs"]
        ]

    def health_ports(self, *, via: Iterable[Node]) -> dict[HealthPort, Node]:
        """The health-check node port at each node, over each IP family, with the node."""
        number = int(self.stored["spec"]["healthCheckNodePort"])
        of = (self.namespace, self.name)
        return {
            HealthPort(f"{node} ({family})", node.addresses[family], number, of): node
            for node in via
            for family in self.families
        }

    @property
    def host_name(self) -> str:
        """Its name in the cluster's DNS, as far as pods complete it themselves."""
        return f"{self.name}.{self.namespace}.svc"

    def name_flow(self, caller: Vantage) -> Flow:
        """The flow from a pod to its name in DNS and its first port."""
        port = int(self.stored["spec"]["ports"][0]["port"])
        return Flow(caller, Target(self.host_name, self.host_name, port, self.owner))

    @property
    def families(self) -> list[str]:
        """Its IP families, the one that it prefers first."""
        return list(self.stored["spec"]["ipFamilies"])

    def _entry(self, key: str, number: int | None) -> dict[str, Any]:
        """The entry of `ports` whose `key` is this number; the first if there is none."""
        entries = self.stored["spec"]["ports"]
        return next((entry for entry in entries if entry.get(key) == number), entries[0])

    def external_flow(self, caller: Vantage, *, address: str, via: Node) -> Flow:
        """The flow from a caller that routes an external IP through `via`, to the first port."""
        port = int(self.stored["spec"]["ports"][0]["port"])
        return Flow(caller, Target(f"{address} via {via}", address, port, self.owner))

    def flow_to(self, caller: Vantage, address: str, *, name: str, port: int | None = None) -> Flow:
        """The flow from a caller to any other address and a port, the node port by default."""
        return Flow(caller, Target(name, address, port or self.node_port, self.owner))

    def change(self, **spec: Any) -> None:
        """Merge fields into its spec; a list replaces the list that was there."""
        self.asked = time.monotonic()
        self._submit({"spec": spec})

    def label(self, labels: Mapping[str, str | None]) -> None:
        """Give it labels, or take them away with None."""
        self._submit({"metadata": {"labels": dict(labels)}})

    def _submit(self, change: Object) -> None:
        answer = self.api.submit_change("Service", self.name, change, self.namespace)
        if answer["kind"] == "Status":
            refused = ApiRefusedError(f"the change of {self.name} was refused", answer)
            # A verdict on the contract, where the change is what the API server will not have.
            raise AssertionError(str(refused)) if answer.get("code") in UNWANTED else refused
        self.stored = answer

    def balance_at(self, addresses: Sequence[str]) -> None:
        """Say in its status, as a load balancer's provider does, at which addresses it is had."""
        ingress = [{"ip": address, "ipMode": "VIP"} for address in addresses]
        change = {"status": {"loadBalancer": {"ingress": ingress}}}
        self.stored = self.api.change("Service", self.name, change, self.namespace, part="status")

    def remove(self) -> bool:
        """Delete it; False if it was gone already."""
        self.asked = time.monotonic()
        return self.api.delete("Service", self.name, self.namespace)


def manifest(
    name: str, namespace: str, selector: Mapping[str, str] | None, spec: Mapping[str, Any]
) -> Object:
    """A NodePort Service with one port 80 that leads to an echo, unless `spec` says otherwise.

    Without a selector nobody looks for pods of it, which is what a clause about numbers wants.
    A field that is None in `spec` is left out.
    """
    fields: Object = {
        "type": "NodePort",
        "selector": dict(selector) if selector else None,
        "ports": [{"port": 80, "targetPort": 8080}],
        **spec,
    }
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {key: value for key, value in fields.items() if value is not None},
    }
