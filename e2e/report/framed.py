"""Results as text between two lines, so that they pass through the log of a pod."""

import base64
import errno
import hashlib
import io
import re
import tarfile
import zlib
from pathlib import Path

from e2e.errors import CannotRunError, UsageError
from e2e.report.outputs import EVIDENCE
from e2e.report.result import RESULT

BEGIN, END = "-----BEGIN NODEPORT-E2E RESULTS", "-----END NODEPORT-E2E RESULTS-----"
FRAME = re.compile(
    rf"^{BEGIN} (?P<size>\d+) (?P<sha256>[0-9a-f]{{64}})-----$\n"
    r"(?P<text>[A-Za-z0-9+/=\n]*)"
    rf"^{END}$",
    re.MULTILINE,
)
# A kubelet begins another file of a log after 10 MiB, and gives away the last one alone.
MOST = 4 << 20
# What a container runtime does not cut into pieces.
LINE = 4096
UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}
FETCH = "fetch the log anew, with kubectl logs, or ask that shard again"
# What is unpacked again, of an archive that says otherwise.
UNPACKED = 1 << 30


def pack(out: Path, *, most: int = MOST) -> tuple[str, str]:
    """A folder of results as lines of text; and what had to be left out, if anything.

    Only what cannot be made again from the rest is in it: the result, and evidence.
    Of evidence as much is taken as there is room for, a whole folder or nothing.

    Raises:
        OSError: it cannot be read.
    """
    chosen = [out / RESULT]
    data, left = _archive(out, chosen), []
    folders = sorted(each for each in (out / EVIDENCE).glob("*") if each.is_dir())
    for folder in folders:
        larger = _archive(out, [*chosen, folder])
        if len(larger) * 4 // 3 > most:
            left.append(folder.name)
        else:
            chosen.append(folder)
            data = larger
    text = base64.b64encode(data).decode()
    lines = [text[n : n + LINE] for n in range(0, len(text), LINE)]
    head = f"{BEGIN} {len(data)} {hashlib.sha256(data).hexdigest()}-----"
    said = f"there is no room in a log for the evidence of {', '.join(left)}" if left else ""
    return "\n".join([head, *lines, END]) + "\n", said


def unpack(text: str, folder: Path) -> Path:
    """Write the last results in a text into a folder; gives that.

    Raises:
        UsageError: there are none, or not as they were sent.
        CannotRunError: the folder cannot be written to.
    """
    every = list(FRAME.finditer(text))
    if not every:
        raise UsageError("there are no results in it, or not to their end", FETCH)
    found = every[-1]
    try:
        data = base64.b64decode(found["text"])
        as_sent = hashlib.sha256(data).hexdigest() == found["sha256"]
        as_sent = as_sent and len(data) == int(found["size"])
    except ValueError:
        as_sent = False
    if not as_sent:
        raise UsageError("the results in it are not as they were sent", FETCH)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as archive:
            members = archive.getmembers()
            if sum(member.size for member in members) > UNPACKED:
                raise UsageError("the results in it are larger than any could be")
            archive.extractall(folder, members, filter="data")
    except (tarfile.TarError, zlib.error, EOFError, OSError, ValueError, OverflowError) as error:
        if isinstance(error, OSError) and error.errno in UNWRITABLE:
            raise CannotRunError(
                f"{folder} cannot be written to: {error.strerror}",
                "make room, or name another --out",
            ) from error
        raise UsageError(f"the results in it cannot be unpacked: {error}", FETCH) from error
    return folder


def _archive(out: Path, chosen: list[Path]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as archive:
        for each in chosen:
            archive.add(each, arcname=str(each.relative_to(out)))
    return made.getvalue()
