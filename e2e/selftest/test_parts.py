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
# docker, as far as it is asked here: what is copied to a node is noted.
DOCKER = """\
#!/bin/sh
echo "docker $*" >>@STATE@/calls
case "$*" in
  *"images list"*)
    for name in kube-apiserver kube-proxy coredns/coredns etcd pause; do echo r.io/$name:v1; done ;;
  *" export "*) if [ -e @STATE@/refuses ]; then echo "no such image" >&2; exit 1; fi ;;
  "cp x-parts"*) echo "${2##*/}" >"$3" ;;
  "cp "*) echo "$(cat "$2") to $3" >>@STATE@/given ;;
esac
"""


@pytest.fixture
def ours(tmp_path, monkeypatch):
    program = DOCKER.replace("@STATE@", str(tmp_path))
    put(tmp_path / "bin", "docker", program)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    engine, folder = Engine("docker", ""), tmp_path / "run"
    return Ours(None, engine, "x", NODES, Undo(engine, folder), folder, Steps(quiet=True))


def calls(tmp_path, word):
    return [line for line in (tmp_path / "calls").read_text().splitlines() if word in line]


@pytest.mark.parametrize(
    ("node", "images"), [("control-plane", "control-plane.tar"), ("worker", "worker.tar")]
)
def test_a_node_is_given_what_it_will_run(ours, tmp_path, node, images):
    with opened(ours, IMAGE) as parts:
        assert calls(tmp_path, "docker rm"), "what the image was open in is gone already"
        parts.give(node)

    assert (tmp_path / "given").read_text().splitlines() == [
        *(f"{name} to {node}:/usr/bin/{name}.next" for name in ("kubeadm", "kubelet", "kubectl")),
        f"{images} to {node}:/kind/{images}",
    ]
    assert calls(tmp_path, f"exec {node} sh -ec ctr --namespace=k8s.io images import")
    assert not parts.folder.exists()


def test_a_worker_needs_fewer_images(ours, tmp_path):
    with opened(ours, IMAGE):
        pass

    everything, of_workers = calls(tmp_path, " export ")
    assert everything.split()[-5:] == [
        *("r.io/kube-apiserver:v1", "r.io/kube-proxy:v1", "r.io/coredns/coredns:v1"),
        *("r.io/etcd:v1", "r.io/pause:v1"),
    ]
    assert of_workers.split("worker.tar ")[1].split() == [
        *("r.io/kube-proxy:v1", "r.io/coredns/coredns:v1", "r.io/pause:v1")
    ]


def test_an_image_that_does_not_come_is_an_error_and_nothing_stays(ours, tmp_path):
    (tmp_path / "refuses").touch()

    with pytest.raises(CommandFailedError, match="no such image"):
        opened(ours, IMAGE).__enter__()

    (removed,) = calls(tmp_path, "docker rm --force --volumes")
    assert removed.endswith("x-parts-v1-37-2")
    assert not [file for file in ours.folder.rglob("*") if file.is_file()]
