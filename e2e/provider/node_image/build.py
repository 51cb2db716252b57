"""Builds a node image on this machine from Go modules and the distribution's packages."""

import hashlib
import json
import os
import platform
import shlex
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from e2e import timing
from e2e.errors import CannotRunError
from e2e.provider.cache import cache_folder, ensure_room, holder_of, only_one
from e2e.provider.command import CommandFailedError, run
from e2e.provider.engine import Engine
from e2e.provider.go_modules import compile_programs, fetch, go_env
from e2e.provider.node_image import rootfs
from e2e.provider.node_image.assemble import Ingredients, assemble, package_versions
from e2e.provider.node_image.parts import FILES, Part, compiled_parts
from e2e.provider.node_image.store import Store, digest
from e2e.provider.packages import install
from e2e.provider.pins import Pins, read_pins
from e2e.provider.steps import Steps

LABEL = "nodeport-e2e"
ENTRYPOINT = ["/usr/local/bin/entrypoint", "/sbin/init"]
SEARCHED = (
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
)
# The sources whose change makes another image of the same parts.
ASSEMBLY = ("assemble.py", "images.py", "rootfs.py")


def reference_of(version: str) -> str:
    """The name of the image that is built here."""
    return f"localhost/{LABEL}/node:{version}"


def key_of(version: str) -> str:
    """A short name for everything that decides what an image holds; it is in its label."""
    pins = read_pins()
    release = pins.releases[version]
    arch = _arch()
    here = Path(__file__).parent
    return digest(
        {
            "kind": pins.kind.sum,
            "agnhost": pins.agnhost_image,
            "tags": [release.etcd_tag, release.coredns_tag, release.pause_tag],
            "packages": pins.packages,
            "parts": {part.name: part.recipe(arch) for part in compiled_parts(pins, release)},
            "files": {file.name: file.read_text() for file in sorted(FILES.iterdir())},
            "assembly": [(here / name).read_text() for name in ASSEMBLY],
        }
    )


def is_current(engine: Engine, version: str) -> bool:
    """Whether the image that would be built is there already."""
    labels = labels_of(engine, reference_of(version))
    return labels is not None and labels.get(f"{LABEL}.key") == key_of(version)


def labels_of(engine: Engine, reference: str) -> dict[str, str] | None:
    """The labels of a local image; None if it is not there."""
    try:
        said = engine.run("image", "inspect", "--format", "{{json .Config.Labels}}", reference)
    except CommandFailedError:
        return None
    return dict(json.loads(said) or {})


def build(version: str, engine: Engine, steps: Steps) -> str:
    """Build the image of a version and return its reference.

    Raises:
        CannotRunError: this machine cannot build it, or a part of it fails; says which.
    """
    pins = read_pins()
    distribution = ensure_possible(pins)
    store = Store(cache_folder() / "node-image")

    lock = store.folder / "lock"
    waiting = lambda: steps.say(f"{holder_of(lock)} builds a node image; waiting for it")  # noqa: E731
    with only_one(lock, waiting=waiting, within=timing.BUILD_LOCK_WITHIN):
        if not is_current(engine, version):
            store.clear()
            try:
                _Building(version, pins, distribution, engine, store, steps).run()
            finally:
                store.clear()
    return reference_of(version)


def ensure_possible(pins: Pins) -> rootfs.Distribution:
    """Check that an image can be built here, and say of which distribution.

    Raises:
        CannotRunError: with the reason.
    """
    do = f"name an image that exists: NODE_IMAGE={pins.kind_published_image}"
    if platform.system() != "Linux":
        raise CannotRunError("a node image can be built on Linux only", do)
    if os.geteuid() != 0:
        raise CannotRunError("a node image can be built by root only", do)
    if shutil.which("go") is None:
        raise CannotRunError("a node image is compiled here, and there is no Go on the PATH", do)
    distribution = rootfs.this_distribution(pins.suites)
    rootfs.refuse_to_install()
    return distribution


@dataclass(frozen=True)
class _Building:
    """One build, from nothing or from what earlier ones left."""

    version: str
    pins: Pins
    distribution: rootfs.Distribution
    engine: Engine
    store: Store
    steps: Steps

    def run(self) -> None:
        parts = compiled_parts(self.pins, self.pins.releases[self.version])
        missing = [part for part in parts if not self.store.has(part.name, part.recipe(_arch()))]
        # 12 GB: Go's caches 6, parts and scratch 3, the engine's copy 1.5, and some air.
        ensure_room(self.store.folder, gigabytes=12 if missing else 5, what="building a node image")
        self._ensure_room_in_engine()
        base = self._start_base()
        try:
            programs = {
                part.name: self._compile(part, f"{number} of {len(parts)}")
                for number, part in enumerate(parts, start=1)
            }
            base_folder = self._finish_base(base)
        finally:
            if base:
                base.stop()
        self._make_image(
            Ingredients(
                release=self.pins.releases[self.version],
                rootfs=base_folder / "rootfs.tar",
                kind_files=fetch(self.pins.kind) / "images/base/files",
                programs=programs,
                agnhost_image=self.pins.agnhost_image,
                agnhost_source=fetch(self.pins.agnhost_from) / "test/images/agnhost",
            )
        )

    def _ensure_room_in_engine(self) -> None:
        """Check the engine's own disk, where that is one of this machine."""
        if self.engine.command == "docker":
            folder = Path(self.engine.run("info", "--format", "{{.DockerRootDir}}").strip())
            if folder.is_dir():
                ensure_room(folder, gigabytes=3, what="a node image in Docker")

    def _base_recipe(self) -> dict[str, object]:
        return {
            "suite": self.distribution.suite,
            "packages": self.pins.packages,
            "left out": rootfs.LEFT_OUT,
            "arch": _arch(),
        }

    def _start_base(self) -> rootfs.RootfsBuild | None:
        """Start to make the root file system; None if it is there."""
        if self.store.has("rootfs", self._base_recipe()):
            return None
        suite = self.distribution.suite
        with self.steps.step("base system", f"a node is a small {suite} with systemd") as step:
            installed = "" if rootfs.has_tool() else f"installed {rootfs.TOOL}; "
            if installed:
                log = self.store.folder / "install.log"
                install((rootfs.TOOL,), log=log, progress=step.progress)
            scratch = self.store.scratch("rootfs")
            (scratch / "made").mkdir()
            base = rootfs.RootfsBuild(
                self.distribution, self.pins.packages, scratch / "made", scratch
            )
            step.done(f"{installed}{suite} is being made while programs are compiled")
        return base

    def _finish_base(self, base: rootfs.RootfsBuild | None) -> Path:
        suite = self.distribution.suite
        with self.steps.step("base system", f"a node is a small {suite} with systemd") as step:
            if base is None:
                step.skip(f"{suite} is there already")
                return self.store.path_of("rootfs", self._base_recipe())
            base.finish()
            step.done(f"{suite}, from the package sources of this machine")
            made = self.store.work / "rootfs" / "made"
            return self.store.accept("rootfs", self._base_recipe(), made)

    def _compile(self, part: Part, number: str) -> Path:
        title = f"{part.programs.title} ({number})"
        recipe = part.recipe(_arch())
        with self.steps.step("compile", "a part of the node image") as step:
            if self.store.has(part.name, recipe):
                step.skip(f"{title} is there already")
            else:
                step.done(f"compiled {title}")
            return self.store.keep(
                part.name,
                recipe,
                lambda made, scratch: compile_programs(
                    part.programs, target=made, work=scratch, progress=step.progress, goos="linux"
                ),
            )

    def _make_image(self, ingredients: Ingredients) -> None:
        reference = reference_of(self.version)
        with self.steps.step("assemble", "a node finds all it needs in its image") as step:
            scratch = self.store.scratch("image")
            root = scratch / "root"
            root.mkdir()
            assemble(ingredients, root, scratch, _arch())
            labels = _labels(self.version, self.distribution, package_versions(root))
            step.done("put all parts in place and preloaded the images of components")
        with self.steps.step("import", "kind takes images of the engine only") as step:
            _load(self.engine, root, scratch, reference, labels)
            _remove_leftovers(self.engine)
            step.done(f"gave {reference} to {self.engine.command}")


def _load(engine: Engine, root: Path, scratch: Path, reference: str, labels: object) -> None:
    """Give a folder to the engine as an image of one layer.

    The engine takes an archive whole or not at all: it checks the layer against its hash.
    """
    layer = scratch / "layer.tar"
    run(
        ["tar", "-C", str(root), "--numeric-owner", "-cf", str(layer), "."],
        timeout=timing.IMAGE_IMPORT_WITHIN,
    )
    with layer.open("rb") as file:
        diff_id = hashlib.file_digest(file, "sha256").hexdigest()
    config = {
        "architecture": _arch(),
        "os": "linux",
        "created": datetime.now(UTC).isoformat(),
        "config": {
            "Entrypoint": ENTRYPOINT,
            # systemd looks for this variable, and takes another signal than usual for "end".
            "Env": ["container=docker", "PATH=" + ":".join(SEARCHED)],
            "StopSignal": "SIGRTMIN+3",
            "Labels": labels,
        },
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{diff_id}"]},
        "history": [{"created_by": "nodeport-e2e"}],
    }
    manifest = [{"Config": "config.json", "RepoTags": [reference], "Layers": [layer.name]}]
    (scratch / "config.json").write_text(json.dumps(config))
    (scratch / "manifest.json").write_text(json.dumps(manifest))
    pack = ["tar", "-C", str(scratch), "-cf", "-", "manifest.json", "config.json", layer.name]
    line = f"set -o pipefail; {shlex.join(pack)} | {shlex.join([engine.command, 'load'])}"
    run(["bash", "-c", line], timeout=timing.IMAGE_IMPORT_WITHIN)


def _labels(
    version: str, distribution: rootfs.Distribution, packages: dict[str, str]
) -> dict[str, str]:
    """What the image says about itself."""
    pins = read_pins()
    release = pins.releases[version]
    made_of = {
        "key": key_of(version),
        "kubernetes": version,
        "etcd": release.etcd.version,
        "coredns": release.coredns.version,
        "containerd": pins.containerd.version,
        "cni-plugins": pins.cni_plugins.version,
        "crictl": pins.crictl.version,
        "kind": pins.kind.version,
        "agnhost": pins.agnhost_image,
        "go": go_env("GOVERSION"),
        "base": f"{distribution.name} {distribution.suite}",
        **{name: packages[name] for name in ("runc", "systemd", "iptables", "nftables")},
    }
    return {
        "org.opencontainers.image.title": f"kind node image, Kubernetes {version}",
        "org.opencontainers.image.version": version,
        **{f"{LABEL}.{name}": value for name, value in made_of.items()},
    }


def _remove_leftovers(engine: Engine) -> None:
    """Remove images of ours that have lost their name, unless a container still uses them."""
    try:
        engine.run(
            "image", "prune", "--force", "--filter", f"label={LABEL}.key",
            timeout=timing.IMAGE_IMPORT_WITHIN,
        )  # fmt: skip
    except CommandFailedError:
        return


def _arch() -> str:
    machine = platform.machine().lower()
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)
