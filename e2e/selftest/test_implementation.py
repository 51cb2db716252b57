"""What kube-proxy was told, and what follows for a node's addresses."""

import tomllib

import pytest

from e2e.cluster.implementation import CHOICES, VERSIONS, Implementation

PRIMARY = ["172.18.0.2", "fc00::2"]


def told(*words: str) -> Implementation:
    return Implementation((1, 37), "iptables", {"nodePortAddresses": list(words)})


@pytest.mark.parametrize(
    ("words", "address", "answers"),
    [
        ([], "192.0.2.1", True),
        (["172.16.0.0/12"], "172.18.0.2", True),
        (["172.16.0.0/12"], "192.0.2.1", False),
        (["172.16.0.0/12"], "127.0.0.1", False),
        # Of a family of which nothing was said, every address answers.
        (["172.16.0.0/12"], "2001:db8::1", True),
        (["172.16.0.0/12", "fc00::/7"], "2001:db8::1", False),
        (["primary"], "172.18.0.2", True),
        (["primary"], "192.0.2.1", False),
        (["primary"], "fc00::2", True),
        (["primary", "192.0.2.0/24"], "192.0.2.1", True),
        (["localhost"], "127.0.0.1", True),
        (["localhost"], "172.18.0.2", False),
        (["all"], "192.0.2.1", True),
    ],
)
def test_configured_addresses_answer(words, address, answers):
    """Networks and keywords let their addresses answer, for each family by itself."""
    assert told(*words).answers_at(address, PRIMARY) is answers


def test_external_addresses_are_served_unless_switched_off():
    """The feature gate is on by default."""
    off = Implementation((1, 37), "iptables", {"featureGates": {"AllowServiceExternalIPs": False}})

    assert told().serves_external_ips
    assert not off.serves_external_ips


@pytest.mark.parametrize(
    ("proxy", "settings", "leaves"),
    [
        ("iptables", {}, True),
        # As kubeadm writes what nobody has set.
        ("iptables", {"iptables": None}, True),
        ("iptables", {"iptables": {"localhostNodePorts": None}}, True),
        ("iptables", {"iptables": {"localhostNodePorts": True}}, True),
        ("iptables", {"iptables": {"localhostNodePorts": False}}, False),
        ("nftables", {"iptables": {"localhostNodePorts": False}}, True),
    ],
)
def test_localhost_is_left_to_the_mode_unless_iptables_is_told(proxy, settings, leaves):
    """Only iptables mode reads the option, and it serves localhost where it is not set."""
    assert Implementation((1, 37), proxy, settings).leaves_localhost is leaves


@pytest.mark.parametrize("file", [CHOICES, VERSIONS], ids=lambda file: file.name)
def test_every_choice_has_its_source(file):
    """What the contract leaves open can be read, and each row says where it is from."""
    choices = tomllib.loads(file.read_text())

    assert all(row["source"] for choice in choices.values() for row in choice["rows"])
