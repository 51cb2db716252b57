"""What a release is made of: versions that agree, and a wheel with all that the command reads."""

import re
import subprocess
import tomllib

import pytest

from e2e.provider.command import own_program
from e2e.selftest.programs import CHECKOUT, environment, only_path
from e2e.selftest.storing_server import CONTEXT, storing_server

PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
HEADING = re.compile(r"## \[(Unreleased|\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d)\]?")


def test_the_changelog_has_the_form_that_a_release_reads():
    """Parts are of versions with a day, or of what is next, which comes first."""
    lines = (CHECKOUT / "CHANGELOG.md").read_text().splitlines()
    parts = [line for line in lines if line.startswith("## ")]
    kinds = {line[4:] for line in lines if line.startswith("### ")}

    assert parts[0] == "## [Unreleased]"
    assert [line for line in parts if not HEADING.fullmatch(line)] == []
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


@pytest.mark.parametrize(("tag", "code"), [("", 0), ("v99.0.0", 2)])
def test_a_tag_of_another_version_is_no_release(tag, code):
    """The workflow ends before anything is built."""
    argv = [CHECKOUT / ".ci" / "release", "notes", tag]

    assert subprocess.run(argv, capture_output=True, check=False, timeout=60).returncode == code


def test_a_wheel_has_every_file_that_is_no_python():
    """Each kind of file in the package is among those that are packed."""
    packed = PROJECT["tool"]["setuptools"]["package-data"]["*"]
    left_out = [
        file.relative_to(CHECKOUT)
        for place in ("e2e", "manifests")
        for file in (CHECKOUT / place).rglob("*")
        if file.is_file()
        and file.suffix not in (".py", ".pyc")
        and "selftest" not in file.relative_to(CHECKOUT).parts
        and not any(part.startswith(".") for part in file.relative_to(CHECKOUT).parts)
        and not any(file.match(pattern) for pattern in packed)
    ]

    assert left_out == []
    assert (CHECKOUT / "e2e" / "manifests").resolve() == CHECKOUT / "manifests"


def test_the_contract_runs_where_another_package_has_our_name(tmp_path):
    """A folder e2e where somebody works, and a pytest.ini, are not taken for ours."""
    env = environment(tmp_path, only_path(tmp_path / "bin")) | {"E2E_ALLOW_CONTEXT": CONTEXT}
    work = tmp_path / "work"
    (work / "e2e").mkdir(parents=True)
    (work / "e2e" / "__init__.py").write_text("raise SystemExit('of somebody else')")
    (work / "pytest.ini").write_text("[pytest]\naddopts = --of-somebody-else\n")
    where = ["--provider=existing", "--kubeconfig=config", f"--kube-context={CONTEXT}"]
    argv = ["run", *where, "--processes=0", "--", "--collect-only", "-q"]

    with storing_server(tmp_path / "api") as server:
        (work / "config").write_text(server.kubeconfig.read_text())
        ended = subprocess.run(
            [*own_program("e2e.cli"), *argv],
            cwd=work, env=env, capture_output=True, text=True, check=False, timeout=200,
        )  # fmt: skip

    assert "e2e/contract/test_reach.py::" in ended.stdout, ended.stdout + ended.stderr
    assert "somebody" not in ended.stdout + ended.stderr
