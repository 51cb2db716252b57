"""Writes container images as one OCI archive, without a container engine."""

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
# Fast: the images are unpacked on the same machine minutes later.
COMPRESSION = 1


@dataclass(frozen=True)
class Layer:
    """A layer whose blob is a file already."""

    blob: Path
    digest: str
    size: int
    diff_id: str


@dataclass(frozen=True)
class Image:
    """An image to write.

    Attributes:
        names: references under which a node finds it.
        layers: from the bottom.
        config: what runs in it, as in the OCI image configuration.
    """

    names: tuple[str, ...]
    layers: tuple[Layer, ...]
    config: dict[str, object] = field(default_factory=dict)


class _Hashing(io.RawIOBase):
    """Passes bytes on and hashes them."""

    def __init__(self, target: "io.BufferedWriter | gzip.GzipFile") -> None:
        self._target = target
        self.sha256 = hashlib.sha256()
        self.size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        block = bytes(data)  # type: ignore[call-overload]
        self.sha256.update(block)
        self.size += len(block)
        self._target.write(block)
        return len(block)


def write_layer(tree: Path, blob: Path) -> Layer:
    """Pack a folder as a layer owned by root."""

    def as_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = 0
        member.uname = member.gname = ""
        member.mtime = 0
        return member

    with blob.open("wb") as file:
        packed = _Hashing(file)
        with gzip.GzipFile(
            fileobj=packed, mode="wb", compresslevel=COMPRESSION, mtime=0
        ) as compressed:
            plain = _Hashing(compressed)
            with tarfile.open(fileobj=plain, mode="w|", bufsize=1 << 20) as tar:
                for path in sorted(tree.iterdir()):
                    tar.add(path, arcname=path.name, filter=as_root)
    return Layer(
        blob,
        digest=f"sha256:{packed.sha256.hexdigest()}",
        size=packed.size,
        diff_id=f"sha256:{plain.sha256.hexdigest()}",
    )


def write_archive(images: Sequence[Image], archive: Path, *, arch: str) -> None:
    """Write images with all their layers into one OCI archive."""
    blobs: dict[str, bytes | Layer] = {}
    entries: list[dict[str, object]] = []
    for image in images:
        config = _add_json(
            blobs,
            {
                "architecture": arch,
                "os": "linux",
                "config": image.config,
                "rootfs": {"type": "layers", "diff_ids": [each.diff_id for each in image.layers]},
            },
        )
        for layer in image.layers:
            blobs[layer.digest] = layer
        manifest = _add_json(
            blobs,
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": {"mediaType": CONFIG, **config},
                "layers": [
                    {"mediaType": LAYER, "digest": each.digest, "size": each.size}
                    for each in image.layers
                ],
            },
        )
        entries += [
            {
                "mediaType": MANIFEST,
                **manifest,
                "platform": {"architecture": arch, "os": "linux"},
                "annotations": {"io.containerd.image.name": name},
            }
            for name in image.names
        ]
    with tarfile.open(archive, "w") as tar:
        _add(tar, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        _add(tar, "index.json", json.dumps({"schemaVersion": 2, "manifests": entries}).encode())
        for digest, blob in blobs.items():
            name = f"blobs/sha256/{digest.removeprefix('sha256:')}"
            if isinstance(blob, Layer):
                tar.add(blob.blob, arcname=name)
            else:
                _add(tar, name, blob)


def _add_json(blobs: dict[str, bytes | Layer], content: object) -> dict[str, object]:
    data = json.dumps(content, sort_keys=True).encode()
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    blobs[digest] = data
    return {"digest": digest, "size": len(data)}


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))
