"""Which node image is used and what is kept, with real files and a program that acts as Docker."""

import json
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from e2e.errors import CannotRunError, UsageError
from e2e.provider import node_image
from e2e.provider.cache import ensure_room, only_one
from e2e.provider.command import CommandFailedError
from e2e.provider.engine import Engine
from e2e.provider.node_image import build, choose, rootfs
from e2e.provider.node_image.images import Image, write_archive, write_layer
from e2e.provider.node_image.parts import FILES, compiled_parts
from e2e.provider.node_image.store import Store
from e2e.provider.pins import read_pins
from e2e.provider.steps import Steps
from e2e.provider.streaming import stream

VERSION = node_image.DEFAULT
ENGINE = Engine("docker", "28.2.2")
QUIET = Steps(quiet=True)


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A docker with images of one's choice: labels by reference, and how a pull goes."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("sh", "cat", "sleep", "echo"):
        (folder / name).symlink_to(f"/bin/{name}")
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("E2E_CACHE", str(tmp_path / "cache"))

    def docker(images: dict[str, dict[str, str]], pull: str = "echo no such host; exit 1") -> None:
        cases = "".join(f"*' {name}') echo '{json.dumps(it)}' ;;" for name, it in images.items())
        (folder / "docker").write_text(
            f'#!/bin/sh\ncase "$1" in\npull) {pull} ;;\n'
            f'image) case "$*" in {cases} *) exit 1 ;; esac ;;\nesac\n'
        )
        (folder / "docker").chmod(0o755)

    return docker


class TestResolve:
    """The first that applies: given, local, pulled, built."""

    def test_an_image_built_before_is_used(self, docker) -> None:
        mine = build.reference_of(VERSION)
        docker({mine: {"nodeport-e2e.key": build.key_of(VERSION)}})
        found = node_image.resolve(VERSION, ENGINE, QUIET)
        assert (found.reference, found.origin) == (mine, "local")

    def test_an_image_pulled_before_is_used(self, docker) -> None:
        docker({f"kindest/node:{VERSION}": {}})
        found = node_image.resolve(VERSION, ENGINE, QUIET)
        assert (found.reference, found.origin) == (f"kindest/node:{VERSION}", "local")

    def test_an_image_of_other_ingredients_is_not_used(self, docker) -> None:
        docker({build.reference_of(VERSION): {"nodeport-e2e.key": "old"}}, pull="echo Pulling")
        found = node_image.resolve(VERSION, ENGINE, QUIET)
        assert (found.reference, found.origin) == (f"kindest/node:{VERSION}", "pulled")

    def test_a_named_image_goes_before_all(self, docker) -> None:
        docker({"mine:1": {}, f"kindest/node:{VERSION}": {}})
        found = node_image.resolve(VERSION, ENGINE, QUIET, given="mine:1")
        assert (found.reference, found.origin) == ("mine:1", "given")

    def test_a_named_image_that_is_nowhere_is_an_error(self, docker) -> None:
        docker({})
        with pytest.raises(CannotRunError, match=r"mine:1.*no such host"):
            node_image.resolve(VERSION, ENGINE, QUIET, given="mine:1")

    def test_a_registry_that_is_silent_is_given_up(
        self, docker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        docker({}, pull="sleep 60")
        monkeypatch.setattr(choose.timing, "REGISTRY_ANSWER", 0.3)
        monkeypatch.setattr(choose, "ensure_possible", lambda _: None)
        monkeypatch.setattr(choose, "build", lambda version, *_: f"built:{version}")
        found = node_image.resolve(VERSION, ENGINE, QUIET)
        assert (found.reference, found.origin) == (f"built:{VERSION}", "built")
        assert "no registry answers within 0.3 s" in found.why

    @pytest.mark.parametrize("version", ["1.37.2", "", "latest", "v1.37"])
    def test_an_unknown_version_is_named_with_those_that_are_known(self, version: str) -> None:
        with pytest.raises(UsageError) as stopped:
            node_image.resolve(version, ENGINE, QUIET)
        assert repr(version) in stopped.value.what
        assert VERSION in stopped.value.do

    def test_a_version_that_is_published_only_is_pulled(self, docker) -> None:
        docker({}, pull="echo Pulling")
        found = node_image.resolve("v1.33.7", ENGINE, QUIET)
        assert (found.reference, found.origin) == ("kindest/node:v1.33.7", "pulled")

    def test_a_version_that_is_neither_known_nor_published_is_named(self, docker) -> None:
        docker({}, pull="echo manifest unknown; exit 1")
        with pytest.raises(
            UsageError, match=r"v1\.33\.7 is not known.*manifest unknown"
        ) as stopped:
            node_image.resolve("v1.33.7", ENGINE, QUIET)
        assert VERSION in stopped.value.do

    PUBLISHED = read_pins().kind_published_image
    ONLY_PUBLISHED = f"case $2 in {PUBLISHED}) echo Pulling ;; *) echo unknown; exit 1 ;; esac"

    @pytest.mark.parametrize("there", [False, True])
    def test_where_nothing_can_be_built_the_published_image_of_that_minor_is_taken(
        self, docker, monkeypatch: pytest.MonkeyPatch, there: bool
    ) -> None:
        docker({self.PUBLISHED: {}} if there else {}, "exit 1" if there else self.ONLY_PUBLISHED)
        monkeypatch.setattr(build.os, "geteuid", lambda: 1000)
        steps = Steps(quiet=True)
        found = node_image.resolve(VERSION, ENGINE, steps)
        assert (found.reference, found.version) == (self.PUBLISHED, "v1.37.0")
        assert "by root only" in found.why
        if not there:
            assert steps.results["node image"].startswith(
                f"Kubernetes v1.37.0 in place of {VERSION}"
            )

    def test_another_minor_is_never_taken_in_place(
        self, docker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        docker({}, self.ONLY_PUBLISHED)
        monkeypatch.setattr(build.os, "geteuid", lambda: 1000)
        with pytest.raises(CannotRunError, match="by root only"):
            node_image.resolve("v1.36.3", ENGINE, QUIET)

    def test_without_the_leave_to_install_a_tool_nothing_is_built(
        self, docker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        docker({})
        monkeypatch.setenv("E2E_INSTALL_ENGINE", "0")
        with pytest.raises(CannotRunError, match="mmdebstrap, which is missing"):
            rootfs.refuse_to_install()

    def test_where_nothing_can_be_built_a_published_image_is_named(
        self, docker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        docker({})
        monkeypatch.setattr(build.os, "geteuid", lambda: 1000)
        with pytest.raises(CannotRunError, match="by root only") as stopped:
            node_image.resolve(VERSION, ENGINE, QUIET)
        assert "NODE_IMAGE=kindest/node:" in stopped.value.do


class TestPins:
    """What pins.toml names."""

    def test_there_is_a_version_of_each_minor(self) -> None:
        minors = {version.rsplit(".", 1)[0] for version in node_image.SUPPORTED}
        assert minors == {"v1.34", "v1.35", "v1.36", "v1.37"}
        assert node_image.DEFAULT in node_image.SUPPORTED

    def test_versions_share_what_is_not_kubernetes(self) -> None:
        pins = read_pins()

        def recipes(version: str) -> dict[str, str]:
            parts = compiled_parts(pins, pins.releases[version])
            return {part.name: json.dumps(part.recipe("amd64")) for part in parts}

        one, other = recipes("v1.37.2"), recipes("v1.36.3")
        differing = {name for name in one if one[name] != other[name]}
        assert differing == {"kubernetes", "etcd", "coredns"}

    def test_every_image_has_its_own_key(self) -> None:
        keys = {build.key_of(version) for version in node_image.SUPPORTED}
        assert len(keys) == len(node_image.SUPPORTED)


class TestStore:
    """A part that is there is whole."""

    def test_a_part_is_made_once(self, tmp_path: Path) -> None:
        store, made = Store(tmp_path), []

        def make(target: Path, scratch: Path) -> None:
            made.append(target)
            (target / "program").write_text("x")

        first = store.keep("etcd", {"version": 1}, make)
        assert store.keep("etcd", {"version": 1}, make) == first
        assert (first / "program").read_text() == "x"
        assert len(made) == 1
        assert store.keep("etcd", {"version": 2}, make) != first

    def test_an_interrupted_part_is_not_there(self, tmp_path: Path) -> None:
        store = Store(tmp_path)

        def interrupted(target: Path, scratch: Path) -> None:
            (target / "program").write_text("half")
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            store.keep("etcd", {}, interrupted)
        assert not store.has("etcd", {})
        kept = store.keep("etcd", {}, lambda target, _: (target / "other").touch())
        assert [file.name for file in kept.iterdir()] == ["other"]
        store.clear()
        assert store.has("etcd", {})
        assert not store.work.exists()


class TestDistribution:
    """What a node is made of is what this machine is made of."""

    def put(self, root: Path, name: str, codename: str, sources: str, text: str) -> None:
        (root / "etc/apt").mkdir(parents=True)
        release = f'PRETTY_NAME="{name} x"\nID={name}\nVERSION_CODENAME={codename}\n'
        (root / "etc/os-release").write_text(release)
        (root / "etc/apt" / sources).parent.mkdir(exist_ok=True)
        (root / "etc/apt" / sources).write_text(text)

    @pytest.mark.parametrize(
        ("name", "codename", "sources", "text"),
        [
            ("debian", "bookworm", "sources.list.d/debian.sources", "Types: deb\nURIs: file:/x\n"),
            ("debian", "trixie", "sources.list", "deb file:/x trixie main\n"),
            ("ubuntu", "noble", "sources.list.d/ubuntu.sources", "Types: deb deb-src\n"),
        ],
    )
    def test_its_own_package_sources_are_found(
        self, tmp_path: Path, name: str, codename: str, sources: str, text: str
    ) -> None:
        self.put(tmp_path, name, codename, sources, text)
        found = rootfs.this_distribution(read_pins().suites, tmp_path)
        assert found == rootfs.Distribution(name, codename, tmp_path / "etc/apt" / sources)

    def test_another_distribution_is_named(self, tmp_path: Path) -> None:
        self.put(tmp_path, "fedora", "", "sources.list", "")
        with pytest.raises(CannotRunError, match="this is fedora x"):
            rootfs.this_distribution(read_pins().suites, tmp_path)

    def test_no_package_sources_are_an_error(self, tmp_path: Path) -> None:
        self.put(tmp_path, "debian", "bookworm", "sources.list", "# empty\n")
        with pytest.raises(CannotRunError, match="no package sources"):
            rootfs.this_distribution(read_pins().suites, tmp_path)


def test_images_share_layers_and_have_all_their_names(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "bin").mkdir(parents=True)
    (tree / "bin/tool").write_text("#!/bin/sh\n")
    (tree / "bin/link").symlink_to("tool")
    layer = write_layer(tree, tmp_path / "blob")
    again = write_layer(tree, tmp_path / "again")
    assert again.digest == layer.digest
    images = [Image(("a:1", "b:2"), (layer,), {"Entrypoint": ["x"]}), Image(("c:3",), (layer,))]
    archive = tmp_path / "images.tar"
    write_archive(images, archive, arch="amd64")
    with tarfile.open(archive) as tar:
        index = json.load(tar.extractfile("index.json") or pytest.fail("no index"))
        names = [each["annotations"]["io.containerd.image.name"] for each in index["manifests"]]
        assert names == ["a:1", "b:2", "c:3"]
        blobs = [name for name in tar.getnames() if name.startswith("blobs/")]
        assert len(blobs) == len(set(blobs)) == 5
        packed = tar.extractfile(f"blobs/sha256/{layer.digest.removeprefix('sha256:')}")
        with tarfile.open(fileobj=packed, mode="r:gz") as inner:
            assert inner.getnames() == ["bin", "bin/link", "bin/tool"]
            assert inner.getmember("bin/tool").uid == 0


def test_too_little_room_is_said_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(CannotRunError, match=r"a building needs 1e\+09 GB on the disk") as stopped:
        ensure_room(tmp_path / "not" / "there", gigabytes=1e9, what="a building")
    assert "E2E_CACHE" in stopped.value.do
    assert not (tmp_path / "not").exists()


def test_a_second_run_waits_and_says_so(tmp_path: Path) -> None:
    said: list[str] = []
    lock = tmp_path / "lock"
    holder = subprocess.Popen(
        ["flock", str(lock), "sh", "-c", "echo held; sleep 0.7"], stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    holder.stdout.readline()
    with only_one(lock, waiting=lambda: said.append("waiting"), within=10):
        assert said == ["waiting"]
    holder.wait()
    holder.stdout.close()


class TestStream:
    """Lines come as they are printed, and nothing is left behind."""

    def test_lines_and_the_log(self, tmp_path: Path) -> None:
        lines: list[str] = []
        log = tmp_path / "log"
        stream(["sh", "-c", "echo a; echo b >&2"], lines.append, timeout=10, log=log)
        assert lines == ["a", "b"]
        assert log.read_text() == "a\nb\n"

    def test_a_failure_has_the_last_words(self) -> None:
        with pytest.raises(CommandFailedError, match=r"ended with 3\n *bad") as stopped:
            stream(["sh", "-c", "echo bad; exit 3"], lambda _: None, timeout=10)
        assert stopped.value.code == 3

    def test_silence_is_given_up_and_later_patience_is_longer(self) -> None:
        with pytest.raises(CommandFailedError, match=r"no word within 0\.2 s"):
            stream(["sleep", "9"], lambda _: None, timeout=10, first_word_within=0.2)
        patient = ["sh", "-c", "echo here; sleep 0.5; echo done"]
        lines: list[str] = []
        stream(patient, lines.append, timeout=10, first_word_within=0.3)
        assert lines == ["here", "done"]


@pytest.mark.skipif(shutil.which("go") is None, reason="needs Go")
def test_pause_ends_when_it_is_asked_for_its_version():
    """Before an upgrade kubeadm runs it so, and waits for its end."""
    main = FILES / "pause_main.go"

    said = subprocess.run(
        ["go", "run", str(main), "-v"], capture_output=True, text=True, timeout=300, check=True
    )

    assert "pause" in said.stdout
