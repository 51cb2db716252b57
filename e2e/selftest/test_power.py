"""A node that was off comes back with its addresses, whatever the engine would give it."""

import pytest

from e2e.cluster.node import Node
from e2e.cluster.power import Power
from e2e.cluster.undo import FOLDER, Undo
from e2e.errors import CannotRunError
from e2e.provider.command import CommandFailedError

NODE = Node("worker", {"IPv4": "10.0.0.6"}, is_control_plane=False)


class FakeEngine:
    """Gives whoever starts the lowest address that is free, and takes wishes or not."""

    command = "docker"

    def __init__(self, *, takes_wishes, taken=(2, 4)):
        self.takes_wishes = takes_wishes
        self.at = {f"other-{n}": n for n in taken} | {"worker": 6}
        self.wished = None

    def run(self, *argv, timeout=0.0):
        match argv:
            case ("kill", "worker"):
                del self.at["worker"]
            case ("network", "connect", *wishes, _, _) if wishes:
                if not self.takes_wishes:
                    raise CommandFailedError(argv, 1, "user configured subnets")
                self.wished = 6
            case ("start", "worker"):
                self.at["worker"] = self.wished or self._lowest()
            case ("run", *options):
                (name,) = (o.removeprefix("--name=") for o in options if o.startswith("--name="))
                self.at[name] = self._lowest()
            case ("rm", "--force", name):
                del self.at[name]
            case ("inspect", "--format", what, name):
                return "sha256:1" if "Image" in what else f"kind 10.0.0.{self.at[name]} \n"
        return ""

    def _lowest(self):
        return next(n for n in range(2, 99) if n not in self.at.values())


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("E2E_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.mark.parametrize("takes_wishes", [True, False])
def test_a_node_has_its_addresses_again(cache, takes_wishes):
    engine = FakeEngine(takes_wishes=takes_wishes)

    with Power(Undo(engine, cache)).off(NODE):
        assert "worker" not in engine.at

    assert engine.at == {"other-2": 2, "other-4": 4, "worker": 6}
    assert list((cache / FOLDER).iterdir()) == []


def test_who_took_them_meanwhile_is_told(cache):
    engine = FakeEngine(takes_wishes=False)

    def disturbed():
        with Power(Undo(engine, cache)).off(NODE):
            engine.at["thief"] = 6

    with pytest.raises(CannotRunError, match="was given other addresses"):
        disturbed()
