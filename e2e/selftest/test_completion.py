"""A shell that completes the command: its parts, its options, and the names of clauses."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from e2e.selftest.programs import CHECKOUT, put, python

# As pip installs it.
COMMAND = f"#!{sys.executable}\nfrom e2e.cli import main\nmain()\n"
ASK = """
eval "$(nodeport-e2e completion bash)"
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
_nodeport_e2e_completion nodeport-e2e
echo "${COMPREPLY[@]}"
"""


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
@pytest.mark.parametrize(
    ("words", "completed"),
    [
        (["expl"], "explain"),
        (["run", "--prov"], "--provider"),
        (["explain", "reach.co"], "reach.control-plane reach.cordoned-node"),
        (["plan", "--only", "N-22"], "N-22"),
    ],
)
def test_bash_completes(tmp_path: Path, words, completed):
    """What `completion bash` prints is read by bash and completes."""
    put(tmp_path / "bin", "nodeport-e2e", COMMAND)
    path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"

    done = subprocess.run(
        ["bash", "-c", ASK, "bash", "nodeport-e2e", *words],
        env=os.environ | {"PATH": path, "PYTHONPATH": str(CHECKOUT)},
        capture_output=True, text=True, check=True, timeout=300,
    )  # fmt: skip

    assert done.stdout == f"{completed}\n", done.stderr


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_have_theirs(shell):
    """Each shell gets a script in its own language; an unknown one is a slip."""
    assert "_NODEPORT_E2E_COMPLETE" in python("e2e.cli", "completion", shell, env=os.environ).stdout
    assert python("e2e.cli", "completion", "ksh", env=os.environ).returncode == 4
