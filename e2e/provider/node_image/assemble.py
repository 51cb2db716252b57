"""Puts the parts of a node image together in a folder, the way kind's own build does."""

import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from e2e import timing
from e2e.errors import CannotRunError
from e2e.provider.command import CommandFailedError, end_group, run
from e2e.provider.node_image.images import Image, Layer, write_archive, write_layer
from e2e.provider.node_image.parts import FILES
from e2e.provider.node_image.store import digest
from e2e.provider.pins import Release
from e2e.provider.streaming import start
from e2e.wait import WaitedInVainError, wait_until

POD_NETWORK_IMAGE = "localhost/nodeport-e2e/pod-network:v1"
REGISTRY = "registry.k8s.io"
SERVICES = ("kubelet", "containerd", "undo-mount-hacks")
# What kind's own build removes, so that systemd starts nothing that makes no sense in a container.
NOT_STARTED = (
    "lib/systemd/system/sysinit.target.wants/systemd-tmpfiles-setup.service",
    "lib/systemd/system/multi-user.target.wants/*",
    "etc/systemd/system/*.wants/*",
    "lib/systemd/system/local-fs.target.wants/*",
    "lib/systemd/system/sockets.target.wants/*udev*",
    "lib/systemd/system/sockets.target.wants/*initctl*",
    "lib/systemd/system/basic.target.wants/*",
)
# The programs that the component images hold beside their own.
# The shell is the distribution's: busybox's own would call its applets, such as its nc, which
# knows less, before the programs on the PATH.
TOOLS = ("bash", "conntrack", "curl", "dig", "ip", "nc", "nft", "sh", "ss")
XTABLES = ("xtables-legacy-multi", "xtables-nft-multi")
STATIC = ("busybox",)


@dataclass(frozen=True)
class Ingredients:
    """Where the parts of one image are.

    Attributes:
        release: the Kubernetes version.
        rootfs: the archive of the root file system.
        kind_files: kind's own files for a node, in its Go module.
        programs: the folder of each compiled part.
        agnhost_image: the name of the agnhost image.
        agnhost_source: its folder in the source of Kubernetes.
    """

    release: Release
    rootfs: Path
    kind_files: Path
    programs: Mapping[str, Path]
    agnhost_image: str
    agnhost_source: Path


def assemble(ingredients: Ingredients, root: Path, scratch: Path, arch: str) -> None:
    """Fill the folder `root` with everything that a node needs.

    Raises:
        CannotRunError: a program that does this fails.
    """
    run(
        ["tar", "-C", str(root), "--numeric-owner", "-xpf", str(ingredients.rootfs)],
        timeout=timing.IMAGE_IMPORT_WITHIN,
    )
    _add_kind_files(ingredients.kind_files, root)
    _add_programs(ingredients, root)
    _add_our_files(ingredients.release, root)
    _configure_containerd(ingredients, root)
    _settle_services(root)
    archive = scratch / "images.tar"
    write_archive(component_images(ingredients, root, scratch), archive, arch=arch)
    preload(ingredients.programs["containerd"], archive, root)
    archive.unlink()


def package_versions(root: Path) -> dict[str, str]:
    """The distribution's packages in a root file system."""
    said = run(["chroot", str(root), "dpkg-query", "-W", "-f", "${Package} ${Version}\\n"])
    return dict(line.split(" ", 1) for line in said.splitlines())


def _add_kind_files(source: Path, root: Path) -> None:
    for file in sorted(source.rglob("*")):
        if not file.is_file():
            continue
        name = file.relative_to(source)
        target = root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
        is_program = name.parts[:2] in {("usr", "local"), ("kind", "bin")}
        target.chmod(0o755 if is_program else 0o644)


def _add_programs(ingredients: Ingredients, root: Path) -> None:
    places = {
        "usr/bin": [
            ingredients.programs["kubernetes"] / name for name in ("kubeadm", "kubelet", "kubectl")
        ],
        "usr/local/bin": [
            *_programs_in(ingredients.programs["containerd"]),
            *_programs_in(ingredients.programs["crictl"]),
        ],
        "opt/cni/bin": list(_programs_in(ingredients.programs["cni-plugins"])),
    }
    for place, programs in places.items():
        for program in programs:
            _put(program, root / place / program.name, 0o755)


def _programs_in(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.is_file())


def _add_our_files(release: Release, root: Path) -> None:
    units = root / "etc/systemd/system"
    _put(FILES / "20-cgroup-v1.conf", units / "kubelet.service.d/20-cgroup-v1.conf", 0o644)
    _put(
        FILES / "20-withheld-capabilities.conf",
        units / "containerd.service.d/20-withheld-capabilities.conf",
        0o644,
    )
    _put(FILES / "20-stats.toml", root / "etc/containerd/conf.d/20-stats.toml", 0o644)
    for name in ("kubelet-on-cgroup-v1.sh", "containerd-without-sys-resource.sh"):
        _put(FILES / name, root / "kind/bin" / name, 0o755)
    manifests = root / "kind/manifests"
    _put(FILES / "pod-network.yaml", manifests / "default-cni.yaml", 0o644)
    _put(FILES / "default-storage.yaml", manifests / "default-storage.yaml", 0o644)
    (root / "kind/version").write_text(release.version)
    listed = "".join(f"{name} {version}\n" for name, version in package_versions(root).items())
    (root / "kind/packages.txt").write_text(listed)
    (root / "etc/kubernetes/manifests").mkdir(parents=True, exist_ok=True)
    # What belongs to this machine, and not to a node.
    for name in ("etc/hostname", "etc/resolv.conf", "etc/machine-id"):
        (root / name).unlink(missing_ok=True)
    (root / "etc/machine-id").touch()


def _configure_containerd(ingredients: Ingredients, root: Path) -> None:
    file = root / "etc/containerd/config.toml"
    lines = file.read_text().splitlines()
    pause = f"{REGISTRY}/pause:{ingredients.release.pause_tag}"
    places = [at for at, line in enumerate(lines) if line.strip().startswith("sandbox_image")]
    if len(places) != 1:
        raise CannotRunError(f"kind's containerd configuration names no sandbox image: {file}")
    lines[places[0]] = f'  sandbox_image = "{pause}"'
    # A file of this version imports none by itself.
    lines.insert(0, 'imports = ["/etc/containerd/conf.d/*.toml"]')
    file.write_text("\n".join(lines) + "\n")
    spec = json.loads(run([str(ingredients.programs["containerd"] / "ctr"), "oci", "spec"]))
    hooks = spec.setdefault("hooks", {}).setdefault("createContainer", [])
    hooks.append({"path": "/kind/bin/mount-product-files.sh"})
    spec["process"].pop("rlimits", None)
    (root / "etc/containerd/cri-base.json").write_text(json.dumps(spec))


def _settle_services(root: Path) -> None:
    for pattern in NOT_STARTED:
        for file in root.glob(pattern):
            file.unlink()
    with (root / "etc/systemd/journald.conf").open("a") as journald:
        journald.write("ReadKMsg=no\n")
    init = root / "usr/sbin/init"
    if not init.is_symlink():
        init.symlink_to("/usr/lib/systemd/systemd")
    run(["chroot", str(root), "systemctl", "enable", *SERVICES])
    run(["chroot", str(root), "systemctl", "mask", "systemd-binfmt.service"])


def component_images(ingredients: Ingredients, root: Path, scratch: Path) -> list[Image]:
    """The images that every node has from the start."""
    release = ingredients.release
    programs = ingredients.programs
    tools = _layer(scratch, "tools", lambda tree: collect_tools(root, tree))

    def program_layer(part: str, name: str, place: str = "") -> Layer:
        return _layer(
            scratch, name, lambda tree: _put(programs[part] / name, tree / place / name, 0o755)
        )

    def kubernetes(name: str, *below: Layer) -> Image:
        layer = program_layer("kubernetes", name, "usr/local/bin")
        return Image((f"{REGISTRY}/{name}:{release.version}",), (*below, layer), _runs(name))

    network = _layer(
        scratch,
        "pod-network",
        lambda tree: _put(FILES / "pod-network.sh", tree / "usr/local/bin/pod-network", 0o755),
    )
    kubectl = program_layer("kubernetes", "kubectl", "usr/local/bin")
    agnhost_extras = _layer(
        scratch, "agnhost-extras", lambda tree: _add_agnhost_files(ingredients.agnhost_source, tree)
    )
    return [
        kubernetes("kube-apiserver"),
        kubernetes("kube-controller-manager"),
        kubernetes("kube-scheduler"),
        kubernetes("kube-proxy", tools),
        Image(
            (f"{REGISTRY}/etcd:{release.etcd_tag}",),
            (program_layer("etcd", "etcd", "usr/local/bin"),),
            _runs("etcd"),
        ),
        Image(
            (f"{REGISTRY}/coredns/coredns:{release.coredns_tag}",),
            (program_layer("coredns", "coredns"),),
            _runs("/coredns"),
        ),
        Image(
            (f"{REGISTRY}/pause:{release.pause_tag}",),
            (program_layer("pause", "pause"),),
            {**_runs("/pause"), "User": "65535:65535"},
        ),
        Image((POD_NETWORK_IMAGE,), (tools, kubectl, network), _runs("pod-network")),
        Image(
            (ingredients.agnhost_image,),
            (tools, agnhost_extras, program_layer("agnhost", "agnhost")),
            {**_runs("/agnhost"), "Cmd": ["pause"]},
        ),
    ]


def collect_tools(root: Path, tree: Path) -> None:
    """Copy a shell, network tools and the libraries that they need out of a root file system."""
    for name in ("bin", "sbin", "lib", "lib64"):
        if (root / name).is_symlink():
            (tree / name).symlink_to((root / name).readlink())
    found = [_program(root, name) for name in (*TOOLS, *XTABLES)]
    said = run(["chroot", str(root), "ldd", *(f"/{path}" for path in found)])
    libraries = {
        word.lstrip("/")
        for line in said.splitlines()
        for word in line.split()
        if word.startswith("/") and not word.endswith(":")
    }
    extensions = [
        str(path.relative_to(root)) for path in root.glob("usr/lib/*/xtables") if path.is_dir()
    ]
    for path in (*found, *(_program(root, name) for name in STATIC), *sorted(libraries)):
        _copy_with_links(root, path, tree)
    for path in (*extensions, "etc/ssl/certs", "etc/protocols", "etc/services"):
        if (root / path).is_dir():
            shutil.copytree(root / path, tree / path, symlinks=True, dirs_exist_ok=True)
        elif (root / path).exists():
            _put(root / path, tree / path, 0o644)
    _add_shell(root, tree)
    _add_iptables(tree)
    for name in ("tmp", "run", "var/run", "root", "proc", "sys", "dev"):
        (tree / name).mkdir(parents=True, exist_ok=True)
    (tree / "tmp").chmod(0o1777)


def _program(root: Path, name: str) -> str:
    for place in ("usr/bin", "usr/sbin"):
        file = root / place / name
        if file.exists() or file.is_symlink():
            return f"{place}/{name}"
    raise CannotRunError(f"the root file system has no {name}")


def _add_shell(root: Path, tree: Path) -> None:
    """Add busybox under each of its names, behind the real programs."""
    names = run(["chroot", str(root), "busybox", "--list"]).split()
    for name in names:
        places = [tree / place / name for place in ("usr/bin", "usr/sbin")]
        if not any(place.exists() or place.is_symlink() for place in places):
            (tree / "usr/bin" / name).symlink_to("busybox")
    etc = tree / "etc"
    etc.mkdir(exist_ok=True)
    (etc / "passwd").write_text(
        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"
    )
    (etc / "group").write_text("root:x:0:\nnogroup:x:65534:\n")
    (etc / "nsswitch.conf").write_text("hosts: files dns\n")


def _add_iptables(tree: Path) -> None:
    _put(FILES / "iptables-choose.sh", tree / "usr/sbin/iptables-choose", 0o755)
    for family in ("iptables", "ip6tables"):
        for kind in ("", "-save", "-restore"):
            link = tree / "usr/sbin" / f"{family}{kind}"
            link.unlink(missing_ok=True)
            link.symlink_to("iptables-choose")


def _add_agnhost_files(source: Path, tree: Path) -> None:
    """Add what the published image has beside the program."""
    for name in ("localhost.crt", "localhost.key"):
        _put(source / "porter" / name, tree / name, 0o644)
    (tree / "uploads").mkdir()
    (tree / "agnhost-2").symlink_to("agnhost")
    (tree / "etc").mkdir()
    (tree / "etc/passwd").write_text(
        "root:x:0:0:root:/root:/bin/sh\n"
        "user-defined-in-image:x:1000:1000::/home:/bin/sh\n"
        "nobody:x:65534:65534:nobody:/:/bin/false\n"
    )
    (tree / "etc/group").write_text(
        "root:x:0:\nuser-defined-in-image:x:1000:\n"
        "group-defined-in-image:x:50000:user-defined-in-image\nnogroup:x:65534:\n"
    )


def preload(containerd: Path, archive: Path, root: Path) -> None:
    """Import images into the content store of a node, by a containerd that runs here for that.

    Raises:
        CannotRunError: it does not start, or the import fails.
    """
    store = root / "var/lib/containerd"
    # Not below the cache: a socket's path may have 107 characters at most. The name is that of
    # the cache, so that the next build finds what a killed one left.
    prefix = f"nodeport-e2e-{digest(str(root))}-"
    for leftover in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        shutil.rmtree(leftover, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=prefix) as folder:
        state = Path(folder)
        socket = state / "containerd.sock"
        configuration = state / "config.toml"
        configuration.write_text(
            f'version = 3\nroot = "{store}"\nstate = "{state}/state"\n'
            'disabled_plugins = ["io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime", '
            '"io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt", '
            '"io.containerd.nri.v1.nri", "io.containerd.snapshotter.v1.blockfile"]\n'
            f'[grpc]\naddress = "{socket}"\n[ttrpc]\naddress = "{socket}.ttrpc"\n'
        )
        log = state / "containerd.log"
        ctr = [str(containerd / "ctr"), "--address", str(socket), "--namespace", "k8s.io"]
        process = start([str(containerd / "containerd"), "--config", str(configuration)], log=log)
        try:
            _wait_for_containerd(process, socket, ctr, log)
            run(
                [*ctr, "images", "import", "--label=io.cri-containerd.pinned=pinned",
                 "--no-unpack", "--digests", str(archive)],
                timeout=timing.IMAGE_IMPORT_WITHIN,
            )  # fmt: skip
        finally:
            end_group(process)


def _wait_for_containerd(
    process: "subprocess.Popen[bytes]", socket: Path, ctr: list[str], log: Path
) -> None:
    def answers() -> bool:
        if process.poll() is not None:
            said = log.read_text(errors="replace")
            raise CommandFailedError(["containerd"], process.returncode, said)
        if not socket.exists():
            return False
        try:
            run([*ctr, "version"], timeout=timing.ENGINE_ANSWER)
        except CommandFailedError:
            return False
        return True

    try:
        wait_until(answers, what="containerd to answer", within=timing.ENGINE_START_WITHIN)
    except WaitedInVainError as error:
        raise CannotRunError(f"{error}\n{log.read_text(errors='replace')[-2000:]}") from error


def _layer(scratch: Path, name: str, fill: Callable[[Path], None]) -> Layer:
    tree = scratch / "layers" / name
    tree.mkdir(parents=True)
    fill(tree)
    layer = write_layer(tree, scratch / f"{name}.layer")
    shutil.rmtree(tree)
    return layer


def _runs(program: str) -> dict[str, object]:
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    # Said aloud: kube-proxy ignores the signal that node images stop by, and would take 30 s.
    return {"Entrypoint": [program], "Env": [f"PATH={path}"], "StopSignal": "SIGTERM"}


def _put(source: Path, target: Path, mode: int) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(mode)


def _copy_with_links(root: Path, path: str, tree: Path) -> None:
    """Copy a file, and each link on the way to it, to the same places."""
    while True:
        # Below merged directories, so that the copy goes through no link of the target tree.
        name = path.lstrip("/")
        first, _, rest = name.partition("/")
        if (root / first).is_symlink():
            name = f"{(root / first).readlink()}/{rest}"
        source, target = root / name, tree / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if not source.is_symlink():
            shutil.copy2(source, target)
            return
        link = source.readlink()
        if not target.is_symlink():
            target.symlink_to(link)
        path = str(link) if link.is_absolute() else str(_normal(Path(name).parent / link))


def _normal(path: Path) -> Path:
    parts: list[str] = []
    for part in path.parts:
        if part == "..":
            parts.pop()
        elif part != ".":
            parts.append(part)
    return Path(*parts)
