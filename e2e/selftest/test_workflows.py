"""What runs on GitHub leaves nothing out."""

from itertools import pairwise, product

import yaml

from e2e.provider.lane import PROXIES, SHAPES
from e2e.provider.pins import read_pins
from e2e.selftest.programs import CHECKOUT
from e2e.upgrade.disturb.command import DISTURBANCES


def newest_of_each_minor() -> list[str]:
    """Versions, oldest first."""
    found: dict[str, str] = {}
    for version in read_pins().releases:
        found.setdefault(version.rpartition(".")[0], version)
    return list(reversed(found.values()))


def test_every_supported_pair_is_upgraded_in_every_mode_of_kube_proxy():
    workflow = yaml.safe_load((CHECKOUT / ".github/workflows/upgrade.yaml").read_text())
    done = workflow["jobs"]["upgrade"]["strategy"]["matrix"]["do"]
    pairs = list(product(pairwise(newest_of_each_minor()), PROXIES))

    assert len(pairs) == 6
    assert [
        (pair, mode)
        for pair, mode in pairs
        if f"upgrade FROM={pair[0]} TO={pair[1]} PROXY={mode} DRAIN=1" not in done
    ] == []


def test_the_contract_is_asked_of_every_shape():
    """Of each on the newest Kubernetes at least."""
    workflow = yaml.safe_load((CHECKOUT / ".github/workflows/e2e.yaml").read_text())
    lanes = workflow["jobs"]["e2e"]["strategy"]["matrix"]["include"]
    newest = newest_of_each_minor()[-1]

    asked = {each["shape"] for each in lanes if each["k8s"] == newest}
    assert asked == {file.stem for file in SHAPES.glob("*.yaml")}


def test_every_disturbance_is_made_nightly():
    """Those that have a target of their own by that, all others by name."""
    workflow = yaml.safe_load((CHECKOUT / ".github/workflows/upgrade.yaml").read_text())
    done = workflow["jobs"]["upgrade"]["strategy"]["matrix"]["do"]
    made = {each.removeprefix("scenario NAME=").split()[0] for each in done}

    assert made == set(DISTURBANCES)
