"""The GitHub action: its scripts with the variables that GitHub would set, and a harness that acts.

What only a runner can show is not here: setup-python, the upload, and how it ends a job.
"""

import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from e2e.selftest.echoes import echoing, planned, watched
from e2e.selftest.programs import CHECKOUT, put
from e2e.selftest.watched import LONG, lines_of

pytestmark = pytest.mark.timeout(400)
ACTION = yaml.safe_load((CHECKOUT / "action.yml").read_text())
STEPS = ACTION["runs"]["steps"]
EXPRESSION = re.compile(r"\$\{\{ inputs\.(?P<name>[a-z-]+)(?: \|\| env\.\w+)? \}\}")
# It notes what it was asked, and does what the harness would leave behind.
ACTS = """#!/bin/bash
shift 2
printf '%s ' "$@" >>"$NOTES"; echo >>"$NOTES"
mkdir -p "$E2E_FOLDER"
case $1 in
run) mkdir -p "$E2E_OUT"; echo told >"$E2E_OUT/summary.md"; touch "$E2E_OUT/junit.xml" ;;
watch) shift 2; "$@"; exit ;;
verify)
    [[ ! -e $E2E_FOLDER/watch.pid ]] || exit 9
    echo judged >"$E2E_FOLDER/summary.md"; touch "$E2E_FOLDER"/{verdict-junit.xml,report.html} ;;
esac
code=ENDS_$1
exit "${!code-0}"
"""
WATCHES = """#!/bin/bash
PYTHONPATH={checkout} exec {python} "$@" --no-cluster
"""


class Job:
    """A job that uses the action, in a workspace with a checkout of the action beside it.

    Attributes:
        workspace: where its steps run.
        notes: what the harness was asked.
        home: of the runner, with the files of the step.
    """

    def __init__(self, folder: Path, harness: str) -> None:
        self.workspace, self._action = folder / "work space", folder / "action"
        self.notes, self.home = folder / "notes", folder / "runner"
        for each in (self.workspace, self._action / ".ci", self.home):
            each.mkdir(parents=True)
        shutil.copy(CHECKOUT / ".ci" / "action", self._action / ".ci")
        (self._action / ".venv").mkdir()
        put(self._action / ".venv" / "bin", "python", harness)

    def uses(
        self, *, environment: Mapping[str, str] | None = None, **inputs: str
    ) -> "subprocess.CompletedProcess[str]":
        """Run the step of the action that asks the harness, as the runner does."""
        given = {name: each.get("default", "") for name, each in ACTION["inputs"].items()}
        given |= {"kube-context": "mine"}
        given |= {name.replace("_", "-"): value for name, value in inputs.items()}
        (step,) = (step for step in STEPS if step.get("id") == "command")
        variables = {
            name: EXPRESSION.sub(lambda found: given[found["name"]], value)
            for name, value in step["env"].items()
        }
        assert not [value for value in variables.values() if value.startswith("${{")]
        for name in ("output", "summary"):
            (self.home / name).write_text("")
        script = self.home / "script.sh"
        script.write_text(step["run"])
        return subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", script],
            cwd=self.workspace, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=LONG, check=False,
            env={
                **variables,
                **(environment or {}),
                "PATH": "/usr/local/bin:/usr/bin:/bin",
                "HOME": str(self.home),
                "NOTES": str(self.notes),
                "GITHUB_ACTION_PATH": str(self._action),
                "GITHUB_OUTPUT": str(self.home / "output"),
                "GITHUB_STEP_SUMMARY": str(self.home / "summary"),
                "RUNNER_TEMP": str(self.home),
                "ENDS_verify": inputs.get("ends", "0"),
                "ENDS_prepare": inputs.get("ends_prepare", "0"),
                "ENDS_run": inputs.get("ends", "0"),
            },
        )  # fmt: skip

    @property
    def outputs(self) -> dict[str, str]:
        """What the step gave to the caller."""
        lines = (self.home / "output").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines)

    @property
    def summary(self) -> str:
        """What the page of the run says."""
        return (self.home / "summary").read_text()


@pytest.fixture
def job(tmp_path):
    """A job whose harness only acts."""
    return Job(tmp_path, ACTS)


def test_no_expression_is_part_of_a_script():
    """What an input says cannot become a command."""
    scripts = [step["run"] for step in STEPS if "run" in step]

    assert len(scripts) == 2
    assert not [script for script in scripts if "${{" in script]


@pytest.mark.parametrize("kind", ["inputs", "outputs"])
def test_all_of_it_is_documented(kind):
    document = (CHECKOUT / "docs" / "action.md").read_text()

    assert [name for name in ACTION[kind] if f"| `{name}` |" not in document] == []


def test_the_environment_is_made_by_the_python_that_was_set_up(tmp_path):
    tools = tmp_path / "tools"
    put(tools, "make", '#!/bin/bash\necho "$@" "$PYTHON"\n')
    (script,) = (step["run"] for step in STEPS if step.get("name") == "Install")
    variables = {"PATH": f"{tools}:/usr/bin:/bin", "GITHUB_ACTION_PATH": "/a b", "PYTHON": "py"}
    done = subprocess.run(
        ["bash", "-eo", "pipefail", "-c", script], env=variables, capture_output=True, check=True
    )

    assert done.stdout == b"--no-print-directory -C /a b environment py\n"


def test_the_contract(job):
    done = job.uses(command="contract")

    assert (done.returncode, job.summary) == (0, "told\n")
    assert job.notes.read_text() == "run --provider=existing \n"
    assert job.outputs == {
        "verdict": "held",
        "exit-code": "0",
        "folder": f"{job.workspace}/out",
        "junit": f"{job.workspace}/out/junit.xml",
    }


@pytest.mark.parametrize(
    ("code", "verdict"),
    [(1, "not-held"), (2, "no-verdict"), (3, "refused"), (4, "usage"), (137, "no-verdict")],
)
@pytest.mark.parametrize("command", ["contract", "verify"])
def test_exit_codes_are_passed_on_and_named(job, command, code, verdict):
    done = job.uses(command=command, ends=str(code))

    assert done.returncode == code
    assert (job.outputs["exit-code"], job.outputs["verdict"]) == (str(code), verdict)


def test_an_upgrade_is_prepared_watched_and_verified(job):
    """The caller's script runs in the workspace, by a shell that stops at the first failure."""
    done = job.uses(command="around", run='echo "up: $PWD"; false | true; echo no')

    assert done.stdout == f"up: {job.workspace}\n"
    prepared, watched, verified = job.notes.read_text().splitlines()
    assert prepared == "prepare "
    assert watched.startswith("watch -- bash --noprofile --norc -eo pipefail ")
    assert verified == "verify --remove "
    assert job.outputs["run-exit-code"] == "1"
    assert job.outputs["verdict"] == "held"
    assert job.outputs["report"] == f"{job.workspace}/out/upgrade/report.html"
    assert job.summary == "judged\n"
    assert done.returncode == 1


def test_what_cannot_be_prepared_is_not_upgraded(job):
    done = job.uses(command="around", run="echo never", ends_prepare="2")

    assert (done.returncode, done.stdout) == (2, "")
    assert job.outputs["verdict"] == "no-verdict"
    assert job.notes.read_text() == "prepare \n"


def test_what_users_noticed_fails_the_step_though_the_upgrade_did_not(job):
    assert job.uses(command="around", run="true", ends="1").returncode == 1
    assert job.outputs["run-exit-code"] == "0"


def test_options_are_those_of_the_inputs(job):
    job.uses(
        command="verify", contract="false", restart_kube_proxy="true", remove="false", folder="a b"
    )

    assert job.notes.read_text() == "verify --no-contract --restart-kube-proxy \n"
    assert job.outputs["folder"] == f"{job.workspace}/a b"


# It reads what the kubeconfig says, from a folder that is not the workspace.
READS = f"""#!/bin/bash
cd /
PYTHONPATH={CHECKOUT} exec {sys.executable} -c '
import os
from pathlib import Path
from e2e.provider.kubeconfig import default_kubeconfig, read_context
file = Path(os.environ["E2E_KUBECONFIG"] or default_kubeconfig())
print(read_context(file, "mine").server, file)
'
"""


@pytest.mark.parametrize(
    ("kubeconfig", "named", "read"),
    [
        ("", "first:a b/second", "https://second {0}/first:{0}/a b/second"),
        ("", "none::{0}/a b/second:", "https://second {0}/a b/second"),
        ("a b/second", "first", "https://second {0}/a b/second"),
        ("", "", "https://home {1}/.kube/config"),
        ("", None, "https://home {1}/.kube/config"),
    ],
)
def test_all_files_of_kubeconfig_are_read_unless_one_is_given(tmp_path, kubeconfig, named, read):
    """Each as it is meant in the workspace."""
    job = Job(tmp_path, READS)
    for file, context in (
        (job.workspace / "first", "other"),
        (job.workspace / "a b" / "second", "mine"),
        (job.home / ".kube" / "config", "mine"),
    ):
        server = "https://home" if file.name == "config" else f"https://{file.name}"
        file.parent.mkdir(exist_ok=True)
        content = {
            "clusters": [{"name": context, "cluster": {"server": server}}],
            "contexts": [{"name": context, "context": {"cluster": context}}],
        }
        file.write_text(yaml.safe_dump(content))
    environment = {} if named is None else {"KUBECONFIG": named.format(job.workspace)}
    done = job.uses(command="contract", kubeconfig=kubeconfig, environment=environment)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == read.format(job.workspace, job.home) + "\n"


@pytest.mark.parametrize(
    ("inputs", "says"),
    [({"command": "upgrade"}, "no command is called upgrade"),
     ({"command": "around"}, "name it in run")],
)  # fmt: skip
def test_what_means_nothing_is_refused(job, inputs, says):
    done = job.uses(**inputs)

    assert done.returncode == 4
    assert says in done.stderr
    assert not job.notes.exists()


def test_a_run_without_a_verdict_shows_none_of_an_earlier_one(job):
    job.uses(command="contract")
    put(job._action / ".venv" / "bin", "python", "#!/bin/bash\nexit 3\n")
    done = job.uses(command="contract")

    assert done.returncode == 3
    assert job.summary == ("nodeport-e2e: refused (exit code 3); the log of this step says why\n")
    assert "junit" not in job.outputs


def test_a_watch_goes_on_across_steps_until_verify(tmp_path):
    """With the real watch: it looks before the first step ends, and is over before verify."""
    job = Job(tmp_path, WATCHES.format(checkout=CHECKOUT, python=sys.executable))
    folder = job.workspace / "out" / "upgrade"
    folder.mkdir(parents=True)
    with echoing() as echo:
        planned(folder, watched("worker-1", echo.address, echo.port, ("new connections",)))
        began = job.uses(command="watch")
        assert began.returncode == 0, began.stdout
        assert any(line["line"] == "looked" for line in lines_of(folder))
        put(tmp_path / "action" / ".venv" / "bin", "python", ACTS)
        done = job.uses(command="verify")

    assert done.returncode == 0, done.stderr
    assert "Nobody noticed anything" in done.stdout
    assert lines_of(folder)[-1]["why"] == f"{folder}/watch.stop is there"
    assert "warning" not in done.stdout


def test_a_watch_that_was_killed_is_told(job):
    gone = subprocess.Popen(["true"])
    gone.wait()
    folder = job.workspace / "out" / "upgrade"
    folder.mkdir(parents=True)
    (folder / "watch.pid").write_text(str(gone.pid))
    (folder / "watch.log").touch()

    assert job.uses(command="verify").stdout.startswith("::warning::the watch had ended before")


def test_a_watch_that_cannot_begin_ends_the_step(tmp_path):
    job = Job(tmp_path, WATCHES.format(checkout=CHECKOUT, python=sys.executable))
    done = job.uses(command="watch")

    assert done.returncode == 4
    assert "no plan in" in done.stdout
