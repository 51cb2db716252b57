"""The DNS name of a Service."""

import pytest

from e2e.check import answered_by, assert_serves


@pytest.mark.clause("names.lead-to-the-cluster-ip", covers=["DP-05"])
def test_the_name_leads_to_the_cluster_ip(standing, expose, nodes, outside, in_pods, look_up):
    """A NodePort Service's DNS name leads to its ClusterIPs, and to the pods on the port itself.

    Its named port has a service record, with the Service's port and not with the node port.
    """
    service = expose(standing, ports=[{"name": "web", "port": 4321, "targetPort": 8080}])
    node_ports = dict.fromkeys(service.flows(outside, via=nodes), answered_by(*standing.pods))
    # Who asks for a name before it is known is told for seconds that there is none.
    assert_serves(node_ports)
    named = {service.name_flow(caller): answered_by(*standing.pods) for caller in in_pods}
    assert_serves(named)

    name = service.host_name
    addresses = set(service.stored["spec"]["clusterIPs"])
    assert look_up("A", name) | look_up("AAAA", name) == addresses
    records = [record.split() for record in look_up("SRV", f"_web._tcp.{name}")]
    assert [port for _, _, port, _ in records] == ["4321"], records
    assert records[0][-1].startswith(f"{name}.")
