"""Whatever stands in a file that is read: it is taken, or named in a plain message, never a crash.

What Hypothesis makes up are files of the right outer shape with anything inside, and any bytes.
"""

import base64
import hashlib
import io
import json
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from e2e.check.budgets import read_budgets
from e2e.check.fingerprint import Fingerprint
from e2e.cluster.api import ApiRefusedError
from e2e.cluster.denied import is_foreign, rules, why_denied
from e2e.errors import UsageError
from e2e.provider.kubeconfig import current_context, pin, read_context, shown
from e2e.report.framed import BEGIN, END, unpack
from e2e.report.matrix import Matrix
from e2e.report.result import Result
from e2e.upgrade.compare import read_run
from e2e.upgrade.plan import PLAN, load_plan
from e2e.upgrade.record import RECORD
from e2e.upgrade.record import load as load_record

quick = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
text = st.text(max_size=20)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | text
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=8,
)


def reading(read: Callable[[Path], Any], content: bytes, name: str = "file") -> Any:
    """What comes of reading this; a message is one or two lines long and names the file."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / name
        file.write_bytes(content)
        said = None
        try:
            return read(file)
        except UsageError as error:
            said = error
        assert said.what
        assert len(str(said).splitlines()) <= 4
        return None


# --- kubeconfigs ---------------------------------------------------------------------------------


names = st.sampled_from(["a", "b", "näme", "", "x" * 300, "a/b@c"])
entries = st.lists(
    st.fixed_dictionaries({}, optional={"name": names, "cluster": anything, "context": anything,
                                        "user": anything})
    | anything,
    max_size=3,
)  # fmt: skip
clusters = st.lists(
    st.fixed_dictionaries(
        {
            "name": names,
            "cluster": st.fixed_dictionaries(
                {"server": scalars},
                optional={"certificate-authority": scalars, "proxy-url": anything},
            ),
        }
    ),
    max_size=3,
)
contexts = st.lists(
    st.fixed_dictionaries(
        {
            "name": names,
            "context": st.fixed_dictionaries({"cluster": names}, optional={"user": names}),
        }
    ),
    max_size=3,
)
users = st.lists(
    st.fixed_dictionaries(
        {
            "name": names,
            "user": st.none()
            | st.fixed_dictionaries(
                {},
                optional={"exec": anything, "token": scalars, "tokenFile": scalars,
                          "client-key": scalars, "password": scalars},
            ),
        }
    ),
    max_size=3,
)  # fmt: skip
kubeconfigs = st.fixed_dictionaries(
    {},
    optional={
        "contexts": contexts | entries | anything,
        "clusters": clusters | entries | anything,
        "users": users | entries | anything,
        "current-context": names | anything,
    },
)


@quick
@given(content=kubeconfigs | anything, context=names)
def test_any_kubeconfig_is_read_or_named(content, context):
    """What is read can be copied and read again; secrets in it break no message."""

    def read(file: Path) -> None:
        found = read_context(file, context)
        assert isinstance(found.server, str)
        assert found.without_secrets("nothing")
        with tempfile.TemporaryDirectory() as folder:
            copy = pin(file, context, Path(folder) / "run")
            again = read_context(copy, context)
            assert again.server == found.server

    reading(read, yaml.safe_dump(content, allow_unicode=True).encode())
    reading(current_context, yaml.safe_dump(content, allow_unicode=True).encode())


@quick
@given(content=st.binary(max_size=200))
def test_any_bytes_are_read_or_named(content):
    for read in (lambda file: read_context(file, "a"), current_context, read_budgets):
        reading(read, content)


# --- what an API server says ---------------------------------------------------------------------


words = st.text(alphabet="abcdefghijklmnopqrstuvwxyz.-/*", min_size=1, max_size=20)


@quick
@given(message=anything, code=anything)
def test_any_status_can_be_told(message, code):
    """Whatever stands where words and a number should be."""
    assert "asked" in str(ApiRefusedError("asked", {"message": message, "code": code}))
    assert isinstance(why_denied(str(message)), str)
    assert isinstance(is_foreign(str(message)), bool)


@quick
@given(verb=words, resource=words, group=words | st.just(""), namespace=words | st.just(""))
def test_any_denied_verb_is_named(verb, resource, group, namespace):
    where = f'in the namespace "{namespace}"' if namespace else "at the cluster scope"
    said = (
        f'{resource} is forbidden: User "x y" cannot {verb} resource "{resource}" in API group '
        f'"{group}" {where}'
    )

    told = why_denied(said)

    assert told.startswith(f"this user may not {verb} {resource}")
    known = any((r.verb, r.resource, r.group) == (verb, resource, group) for r in rules())
    assert ("no manifest" in told) or known
    assert is_foreign(said)


@quick
@given(name=words, password=st.text(alphabet="abc123:@%", max_size=10), path=words)
def test_no_password_of_an_address_is_shown(name, password, path):
    url = shown(f"https://{name}:{password}SECRET@host.example.com:6443/{path}")
    if "/" not in name:
        assert "SECRET" not in url
        assert url.startswith("https://host.example.com:6443/")


# --- budgets and results -------------------------------------------------------------------------


tables = st.dictionaries(
    st.sampled_from(["new", "kept", "udp", "watch", "behaviours", "x"]),
    st.dictionaries(
        st.sampled_from(["outage", "outages", "not_looked", "longest", "may", "y"]),
        st.integers() | st.floats() | st.booleans() | st.text(alphabet="abc", max_size=5),
        max_size=3,
    ),
    max_size=4,
)


def as_toml(content: dict[str, dict[str, Any]]) -> str:
    lines = []
    for table, values in content.items():
        lines.append(f"[{table}]")
        lines += [f"{key} = {_toml(value)}" for key, value in values.items()]
    return "\n".join(lines)


def _toml(value: Any) -> str:
    return json.dumps(value) if isinstance(value, bool | str) else str(value)


@quick
@given(content=tables)
def test_any_budgets_are_taken_or_named(content):
    reading(read_budgets, as_toml(content).encode())


READERS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "result": ("result.json", Result.load),
    "fingerprint": ("before.json", Fingerprint.load),
    "matrix": ("faults.json", Matrix.load),
    "plan": (PLAN, lambda file: load_plan(file.parent)),
    "run": ("before.json", read_run),
    "record": (RECORD, lambda file: load_record(file.parent)),
    "log": ("pod.log", lambda file: unpack(file.read_text(errors="replace"), file.parent / "in")),
}


@pytest.mark.parametrize("what", READERS)
@quick
@given(content=anything | st.binary(max_size=100), field=st.data())
def test_any_file_that_is_read_back_is_taken_or_named(what, content, field):
    name, read = READERS[what]
    as_bytes = content if isinstance(content, bytes) else json.dumps(content).encode()
    reading(read, as_bytes, name)
    # With the words of the real format, and anything behind them.
    known = ["format", "clauses", "run", "made", "cluster", "flows", "trials", "taken", "kind", "t"]
    keyed = field.draw(st.dictionaries(st.sampled_from(known), anything, max_size=5))
    reading(read, json.dumps(keyed).encode(), name)


@quick
@given(
    content=st.binary(max_size=100), members=st.dictionaries(text, st.binary(max_size=20)),
    wrong=st.sampled_from(["", "A", "=", "\n"]), size=st.sampled_from(["", "0", "9" * 5000]),
)  # fmt: skip
def test_any_log_of_a_pod_is_taken_or_named(content, members, wrong, size):
    """With results between the lines that belong there, whatever they are, or became on the way."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as archive:
        for name, inside in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(inside)
            archive.addfile(member, io.BytesIO(inside))
    for data in (content, made.getvalue(), made.getvalue()[:-9]):
        said = f"{size or len(data)} {hashlib.sha256(data).hexdigest()}-----"
        inside = wrong + base64.b64encode(data).decode()
        reading(READERS["log"][1], f"{BEGIN} {said}\n{inside}\n{END}\n".encode(), "pod.log")


@quick
@given(content=st.binary(max_size=100) | text.map(lambda said: f"<a>{said}</a>".encode()))
def test_any_junit_is_taken_or_named(content):
    reading(lambda file: read_run(file.parent), content, "junit.xml")
