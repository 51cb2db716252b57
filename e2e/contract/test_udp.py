"""UDP through a node port."""

import pytest

from e2e import timing
from e2e.check import (
    answered_by,
    assert_one_each,
    assert_serves,
    assert_settles,
    assert_spread_evenly,
    assert_unnoticed,
    connections_needed,
)
from e2e.probe import BLOCKED, UDP, draw, draw_kept, watching

DNS = {"name": "dns", "port": 53, "targetPort": 8081, "protocol": "UDP"}
# What connection tracking may bring is a pod that is left out, and not one that is off by a little.
UNEVENNESS = 0.5
# Through each node.
IDLE = 5


@pytest.mark.clause("udp.every-node", covers=["L4-01", "DP-20"])
@pytest.mark.needs("own-sockets")
def test_udp_answers_on_every_node(standing, expose, nodes, outside):
    """A UDP node port answers on every node, from the address and port that were called.

    A flow from one source port loses no datagram.
    """
    service = expose(standing, ports=[DNS])
    flows = service.flows(outside, via=nodes)

    assert_serves(dict.fromkeys(flows, answered_by(*standing.pods)))
    with watching(flows) as watch:
        assert_serves(dict.fromkeys(flows, answered_by(*standing.pods)))
    assert_unnoticed(watch)


@pytest.mark.clause("udp.source-port-decides", covers=["L4-10"])
@pytest.mark.needs("own-sockets")
def test_a_source_port_keeps_its_pod(standing, expose, nodes, outside):
    """Over UDP one source port stays on one pod, and new source ports get each pod equally often.

    That holds through every node.
    """
    flows = expose(standing, ports=[DNS]).flows(outside, via=nodes)
    assert_settles(dict.fromkeys(flows, answered_by(*standing.pods)))

    with watching(flows) as watch:
        replies = draw(flows, connections_needed(len(standing.pods), unevenness=UNEVENNESS))

    assert_spread_evenly(replies, over=standing.pods, unevenness=UNEVENNESS)
    stayed = {track.flow: [sample.reply for sample in track.samples] for track in watch.tracks}
    assert_one_each(stayed, over=standing.pods)


@pytest.mark.clause("udp.idle-flow", covers=["L4-10"])
@pytest.mark.needs("own-sockets")
def test_an_idle_flow_keeps_its_pod(standing, expose, nodes, outside):
    """A UDP flow in which nothing was said for twenty seconds still leads to its pod.

    Five through each node are idle at the same time, and none loses its next datagram.
    """
    service = expose(standing, ports=[DNS])
    assert_settles(dict.fromkeys(service.flows(outside, via=nodes), answered_by(*standing.pods)))

    ports = [f for _ in range(IDLE) for f in service.flows(outside, via=nodes)]
    replies = draw_kept(ports, 2, idle=timing.UDP_IDLE_FOR)

    assert_one_each(replies, over=standing.pods)


@pytest.mark.clause("udp.independent-of-tcp", covers=["L4-13"])
@pytest.mark.needs("own-sockets")
def test_tcp_and_udp_share_a_number(standing, expose, nodes, outside):
    """TCP and UDP on one node port number are independent: each goes and leaves the other alone.

    Not one connection of the other fails and not one datagram of it is lost.
    """
    tcp = {"name": "tcp", "port": 53, "targetPort": 8080}
    service = expose(standing, ports=[tcp])
    number = {"nodePort": service.node_port}
    tcp, udp = tcp | number, DNS | number
    service.change(ports=[tcp, udp])
    over_tcp = service.flows(outside, via=nodes)
    over_udp = service.flows(outside, via=nodes, protocol=UDP)
    served = answered_by(*standing.pods)
    assert_serves(dict.fromkeys(over_tcp + over_udp, served))

    for stays, goes, ports in (over_tcp, over_udp, [tcp]), (over_udp, over_tcp, [udp]):
        service.change(ports=[tcp, udp])
        assert_settles(dict.fromkeys(over_tcp + over_udp, served))
        with watching(stays) as watch:
            service.change(ports=ports)
            assert_settles(dict.fromkeys(goes, BLOCKED) | dict.fromkeys(stays[:1], served), times=1)
        assert_unnoticed(watch)
