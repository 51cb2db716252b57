"""The image of the harness, made of what this run itself is made of: no registry is asked.

It holds this interpreter, the packages that it has, the libraries that these need, and this
package. So it is the same harness; Dockerfile makes the one for everybody else.
"""

import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from e2e import timing
from e2e.errors import CannotRunError
from e2e.provider.cache import cache_folder, ensure_room, only_one
from e2e.provider.command import ROOT, run
from e2e.provider.engine import Engine
from e2e.provider.node_image.images import Image, Layer, write_archive, write_layer
from e2e.provider.node_image.store import digest
from e2e.provider.steps import Steps

NAME = "localhost/nodeport-e2e/harness"
PROJECT = "nodeport-e2e"
PLACE = Path("/opt/nodeport-e2e")
# Somebody without a name or a right.
USER = 65532
# Of the interpreter, what no program needs, or nobody sees.
LEFT_OUT = ("__pycache__", "test", "tests", "idlelib", "tkinter", "turtledemo", "ensurepip",
            "lib2to3", "pydoc_data", "site-packages", "dist-packages", "selftest")  # fmt: skip
LIBRARY = re.compile(r"(?:=> )?(/\S+) \(0x[0-9a-f]+\)")
# Files beside others that a dynamic linker reads, in the order of its own search.
ELF = b"\x7fELF"
DO = "name one that the nodes can pull: --image=REFERENCE, as `docker build` and a push make it"


def reference() -> str:
    """The name of the image of this harness; another one as soon as anything in it is."""
    return f"{NAME}:{digest({'base': _base_recipe(), 'source': _source_recipe()})[:16]}"


def build(steps: Steps) -> Path:
    """Make the image, if it is not there, and give it as an OCI archive.

    Raises:
        CannotRunError: it cannot be made on this machine, or is not of what nodes are.
    """
    if platform.system() != "Linux":
        raise CannotRunError("the image of the harness is made on Linux only", DO)
    folder = cache_folder() / "harness-image"
    archive = folder / f"{reference().rpartition(':')[2]}.tar"
    with (
        steps.step("harness image", "pods ask the contract with the same harness as here") as step,
        only_one(folder / "lock", waiting=lambda: None, within=timing.BUILD_LOCK_WITHIN),
    ):
        if archive.exists():
            step.skip(f"{archive.name} is there already")
            return archive
        ensure_room(folder, gigabytes=2, what="the image of the harness")
        scratch = folder / "scratch"
        shutil.rmtree(scratch, ignore_errors=True)
        try:
            base = _layer(folder, digest(_base_recipe()), scratch / "base", _fill_base)
            step.progress("adding this package")
            source = _layer(folder, digest(_source_recipe()), scratch / "source", _fill_source)
            image = Image((reference(),), (base, source), _config())
            made = scratch / archive.name
            write_archive([image], made, arch=_arch())
            for old in folder.glob("*.tar"):
                old.unlink()
            made.rename(archive)
        except OSError as error:
            raise CannotRunError(f"the image of the harness was not made: {error}", DO) from error
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        step.done(f"made {archive.name} of Python {platform.python_version()} as it is here")
    return archive


def load(archive: Path, node: str, engine: Engine) -> bool:
    """Give the image to a node of kind; False if it had it.

    Raises:
        CommandFailedError: it does not take it.
    """
    ctr = ["ctr", "--namespace=k8s.io", "images"]
    name = f"{NAME}:{archive.stem}"
    there = engine.run("exec", node, *ctr, "ls", "--quiet").split()
    if name in there:
        return False
    # What earlier harnesses left on a kept cluster is half a gigabyte each.
    if old := [each for each in there if each.startswith(f"{NAME}:")]:
        engine.run("exec", node, *ctr, "rm", *old)
    into = shlex.join([engine.command, "exec", "--interactive", node, *ctr, "import", "-"])
    line = f"{into} < {shlex.quote(str(archive))}"
    run(["bash", "-c", line], timeout=timing.IMAGE_LOADED_WITHIN)
    return True


def _layer(folder: Path, key: str, tree: Path, fill: Callable[[Path], None]) -> Layer:
    """A layer from the cache, or made now."""
    blob, noted = folder / f"{key}.blob", folder / f"{key}.layer"
    if not (blob.exists() and noted.exists()):
        tree.mkdir(parents=True)
        fill(tree)
        _compile(tree)
        part = folder / "scratch" / "blob"
        layer = write_layer(tree, part)
        # Only the latest of each kind is kept.
        for earlier in folder.glob(f"*.{tree.name}"):
            for suffix in (".blob", ".layer", f".{tree.name}"):
                earlier.with_suffix(suffix).unlink(missing_ok=True)
        noted.write_text(f"{layer.digest} {layer.size} {layer.diff_id}")
        (folder / f"{key}.{tree.name}").touch()
        part.rename(blob)
        shutil.rmtree(tree)
    said, size, diff_id = noted.read_text().split()
    return Layer(blob, said, int(size), diff_id)


def _fill_base(root: Path) -> None:
    """The interpreter, the packages, and the libraries of both."""
    python = _python()
    _copy(python, root)
    for name in ("stdlib", "platstdlib"):
        folder = Path(sysconfig.get_path(name, vars=_base_vars()))
        _copy_tree(folder, root / folder.relative_to("/"))
    packages = root / PLACE.relative_to("/") / "packages"
    for package in packages_needed():
        _copy_package(package, packages)
    for library in _libraries(root, python):
        _copy(library, root)
    for made in ("tmp", "work", "etc"):
        (root / made).mkdir(exist_ok=True)
    (root / "tmp").chmod(0o1777)
    (root / "work").chmod(0o1777)
    (root / "etc/passwd").write_text(f"harness:x:{USER}:{USER}::/tmp:/sbin/nologin\n")


def _fill_source(root: Path) -> None:
    place = root / PLACE.relative_to("/") / "lib"
    # manifests/ is a link in a checkout.
    shutil.copytree(ROOT / "e2e", place / "e2e", ignore=shutil.ignore_patterns(*LEFT_OUT))
    if about := _own_metadata():
        (place / about.parent.name).mkdir()
        shutil.copy2(about, place / about.parent.name)


def _own_metadata() -> Path | None:
    """By which an installed harness knows its version; there is none in a checkout."""
    try:
        files = metadata.distribution(PROJECT).files or []
    except metadata.PackageNotFoundError:
        return None
    return next((Path(str(each.locate())) for each in files if each.name == "METADATA"), None)


def _python() -> Path:
    """The interpreter itself, and not a link of an environment to it."""
    return Path(os.path.realpath(sys.executable))


def _base_vars() -> dict[str, str]:
    """Where the interpreter is that an environment is of."""
    pure, plat = sys.base_prefix, sys.base_exec_prefix
    return {"base": pure, "platbase": plat, "installed_base": pure, "installed_platbase": plat}


@cache
def packages_needed() -> tuple[str, ...]:
    """The names of all packages that the harness needs to run, itself not among them.

    Raises:
        CannotRunError: one of them is not here.
    """
    wanted = list(_own_requirements())
    found: dict[str, str] = {}
    while wanted:
        requirement = Requirement(wanted.pop())
        key = re.sub(r"[-_.]+", "-", requirement.name).lower()
        marker = requirement.marker
        if key in found or (marker and not marker.evaluate({"extra": ""})):
            continue
        try:
            package = metadata.distribution(requirement.name)
        except metadata.PackageNotFoundError as error:
            raise CannotRunError(f"the package {requirement.name} is not here", DO) from error
        found[key] = package.version
        wanted += package.requires or []
    return tuple(sorted(found))


def _own_requirements() -> Iterable[str]:
    project = ROOT / "pyproject.toml"
    if project.exists():
        return list(tomllib.loads(project.read_text())["project"]["dependencies"])
    try:
        return metadata.requires(PROJECT) or []
    except metadata.PackageNotFoundError as error:
        raise CannotRunError(f"{PROJECT} is neither installed nor a checkout", DO) from error


def _copy_package(name: str, packages: Path) -> None:
    """What a package has in the folder of packages; its commands are of no use there."""
    for file in metadata.distribution(name).files or []:
        inside = Path(str(file))
        if ".." in inside.parts or any(part in LEFT_OUT for part in inside.parts[:-1]):
            continue
        source = Path(str(file.locate()))
        if source.is_file():
            target = packages / inside
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)


def _copy_tree(source: Path, target: Path) -> None:
    shutil.copytree(
        source, target, ignore=shutil.ignore_patterns(*LEFT_OUT, "config-*"), dirs_exist_ok=True
    )


def _copy(file: Path, root: Path) -> None:
    """A file as what it is, under the name by which it is asked for."""
    target = root / file.relative_to("/")
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(file.resolve(), target)


def _libraries(root: Path, python: Path) -> set[Path]:
    """The shared libraries that programs below a folder ask for and do not bring."""
    programs = [file for file in _programs(root) if file != root / python.relative_to("/")]
    found: set[Path] = set()
    for asked in ([python], *(programs[n : n + 50] for n in range(0, len(programs), 50))):
        # It ends with 1 if any of them is no program that a linker knows.
        said = subprocess.run(
            ["ldd", *map(str, asked)], capture_output=True, text=True, check=False,
            timeout=timing.COMMAND,
        )  # fmt: skip
        found |= {Path(path) for path in LIBRARY.findall(said.stdout)}
    return {path for path in found if not path.is_relative_to(root)}


def _programs(root: Path) -> Iterator[Path]:
    for file in root.rglob("*"):
        if file.is_file() and not file.is_symlink() and file.suffix not in (".py", ".pyi"):
            with file.open("rb") as opened:
                if opened.read(4) == ELF:
                    yield file


def _compile(root: Path) -> None:
    """So that no pod has to; times of files say nothing in an image."""
    argv = [sys.executable, "-m", "compileall", "-q", "-j", "0", "--invalidation-mode",
            "unchecked-hash", "-s", str(root), "-p", "/", str(root)]  # fmt: skip
    # What is written for other versions of Python cannot be compiled by this one, nor imported.
    subprocess.run(argv, capture_output=True, check=False, timeout=timing.IMAGE_IMPORT_WITHIN)


def _config() -> dict[str, object]:
    python, lib = _python(), PLACE / "lib"
    searched = sorted({str(path.parent) for path in _libraries(Path("/nonexistent"), python)})
    return {
        "User": f"{USER}:{USER}",
        "Entrypoint": [str(python), "-P", "-m", "e2e.cli"],
        "Env": [
            f"PYTHONPATH={lib}:{PLACE / 'packages'}",
            f"LD_LIBRARY_PATH={':'.join(searched)}",
            "PATH=/usr/local/bin:/usr/bin:/bin",
            "PYTHONDONTWRITEBYTECODE=1",
            *("HOME=/tmp", "E2E_CACHE=/tmp/nodeport-e2e", "E2E_INSTALL_ENGINE=0"),
        ],
        "WorkingDir": "/work",
    }


def _base_recipe() -> dict[str, object]:
    versions = {name: metadata.version(name) for name in packages_needed()}
    system = [platform.platform(), platform.python_version(), str(_python())]
    return {"system": system, "packages": versions, "how": Path(__file__).read_text()}


def _source_recipe() -> dict[str, str]:
    source, about = ROOT / "e2e", _own_metadata()
    return {
        str(file.relative_to(source)): digest(file.read_bytes().hex())
        for folder in (source, source / "manifests")
        for file in sorted(folder.rglob("*"))
        if file.is_file() and not {*LEFT_OUT} & set(file.relative_to(source).parts)
    } | ({"about": digest(about.read_text())} if about else {})


def _arch() -> str:
    machine = platform.machine().lower()
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)
