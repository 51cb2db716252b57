"""Parts of another version come out of its node image: which, where to, and what goes wrong."""

import os

import pytest

from e2e.cluster.undo import Undo
from e2e.provider.command import CommandFailedError
from e2e.provider.engine import Engine
from e2e.provider.node_image import NodeImage
from e2e.provider.steps import Steps
from e2e.selftest.clusters import NODES
from e2e.selftest.programs import put
from e2e.upgrade.disturb.ours import Ours
from e2e.upgrade.disturb.parts import opened

IMAGE = NodeImage("node:v1.37.2", "v1.37.2", "local", "")
# docker, as far as it is asked here: what goes out of one container goes into the other.
DOCKER = """\
#!/bin/sh
echo "docker $*" >>@STATE@/calls
case "$*" in
  *"images list"*)
    for name in kube-apiserver kube-proxy coredns/coredns etcd pause; do echo r.io/$name:v1; done ;;
  *"-cf -"*) echo programs ;;
  *"export -"*) if [ -e @STATE@/refuses ]; then echo "no such image" >&2; exit 1; fi; echo images ;;
  *"-xf -"* | *"import"*) echo "$(cat) into $3" >>@STATE@/given ;;
esac
"""


@pytest.fixture
def ours(tmp_path, monkeypatch):
    program = DOCKER.replace("@STATE@", str(tmp_path))
    put(tmp_path / "bin", "docker", program)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    engine = Engine("docker", "")
    return Ours(None, engine, "x", NODES, Undo(engine, tmp_path / "undo"), Steps(quiet=True))


def calls(tmp_path, word):
    return [line for line in (tmp_path / "calls").read_text().splitlines() if word in line]


@pytest.mark.parametrize(
    ("node", "images"),
    [
        ("control-plane", ["kube-apiserver", "kube-proxy", "coredns/coredns", "etcd", "pause"]),
        ("worker", ["kube-proxy", "coredns/coredns", "pause"]),
    ],
)
def test_a_node_is_given_what_it_will_run(ours, tmp_path, node, images):
    with opened(ours, IMAGE) as parts:
        parts.give(node)

    assert (tmp_path / "given").read_text().split("\n")[:2] == [
        *(f"programs into {node}", f"images into {node}")
    ]
    (export,) = calls(tmp_path, "export")
    assert export.split("export - ")[1].split() == [f"r.io/{name}:v1" for name in images]
    (removed,) = calls(tmp_path, "docker rm")
    assert removed.endswith("x-parts-v1-37-2")


def test_an_image_that_does_not_come_is_an_error_and_the_container_goes(ours, tmp_path):
    """Half of a pipe that fails is a failure."""
    (tmp_path / "refuses").touch()

    def give():
        with opened(ours, IMAGE) as parts:
            parts.give("worker")

    with pytest.raises(CommandFailedError, match="no such image"):
        give()

    assert calls(tmp_path, "docker rm --force --volumes")
