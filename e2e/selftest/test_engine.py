"""Finding, starting and stopping a container engine, with programs that only look like one."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from e2e.errors import CannotRunError
from e2e.provider import engine, packages
from e2e.provider.steps import Steps
from e2e.wait import wait_until

WORKING = '#!/bin/sh\ncase "$1" in version | info) echo 28.2.2 ;; *) echo "$@" ;; esac\n'
WITHOUT_DAEMON = "#!/bin/sh\necho Cannot connect to the Docker daemon >&2\nexit 1\n"


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is the whole PATH, but for a shell."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("sh", "sleep", "sed", "cat"):
        (folder / name).symlink_to(f"/bin/{name}")
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("E2E_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("KIND_EXPERIMENTAL_PROVIDER", raising=False)
    return folder


def put(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text)
    (folder / name).chmod(0o755)


def test_a_docker_that_answers_is_used_as_it_is(programs: Path) -> None:
    put(programs, "docker", WORKING)
    found = engine.ensure_engine(Steps(quiet=True))
    assert (found.command, found.version) == ("docker", "28.2.2")
    assert found.run("ps", "-a") == "ps -a\n"
    assert found.kind_env == {}


def test_podman_is_used_where_docker_has_no_daemon(programs: Path) -> None:
    put(programs, "docker", WITHOUT_DAEMON)
    put(programs, "podman", WORKING)
    found = engine.find_engine()
    assert found is not None
    assert found.command == "podman"
    assert found.kind_env == {"KIND_EXPERIMENTAL_PROVIDER": "podman"}


def test_the_user_may_prefer_podman(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(programs, "docker", WORKING)
    put(programs, "podman", WORKING)
    monkeypatch.setenv("KIND_EXPERIMENTAL_PROVIDER", "podman")
    found = engine.find_engine()
    assert found is not None
    assert found.command == "podman"


def test_an_engine_that_hangs_does_not_hang_us(
    programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(programs, "docker", "#!/bin/sh\nsleep 100\n")
    monkeypatch.setattr(engine.timing, "ENGINE_ANSWER", 0.3)
    assert engine.find_engine() is None


def test_nothing_is_installed_when_that_is_refused(
    programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("E2E_INSTALL_ENGINE", "0")
    with pytest.raises(CannotRunError, match="E2E_INSTALL_ENGINE=0") as refused:
        engine.ensure_engine(Steps(quiet=True))
    assert "start Docker or Podman" in refused.value.do


@pytest.mark.parametrize("variable", ["DOCKER_HOST", "DOCKER_CONTEXT"])
def test_an_engine_that_is_named_and_silent_is_not_replaced(
    programs: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    """One that is started here would not be asked either; what docker says is told."""
    put(programs, "docker", "#!/bin/sh\necho 'cannot connect to there' >&2\nexit 1\n")
    monkeypatch.setenv(variable, "there")
    with pytest.raises(
        CannotRunError, match=f"{variable} is there\n  docker: cannot conn"
    ) as refused:
        engine.refuse_to_install()
    assert f"unset {variable}" in refused.value.do


def test_nothing_is_installed_on_other_systems(programs: Path) -> None:
    with pytest.raises(CannotRunError, match="no container engine works here"):
        engine.refuse_to_install()


def test_nothing_is_installed_without_root(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(programs, "apt-get", "#!/bin/sh\nexit 1\n")
    monkeypatch.setattr(engine, "_is_debian_like", lambda: True)
    monkeypatch.setattr(engine.os, "geteuid", lambda: 1000)
    with pytest.raises(CannotRunError, match="not root"):
        engine.refuse_to_install()


def test_withheld_capabilities_are_those_missing_in_the_bounding_set(tmp_path: Path) -> None:
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    everything = (1 << (last + 1)) - 1
    status = tmp_path / "status"
    status.write_text(f"Name:\tx\nCapBnd:\t{everything:016x}\n")
    assert engine.withheld_capabilities(status) == 0
    status.write_text(f"Name:\tx\nCapBnd:\t{everything & ~(1 << 24):016x}\n")
    assert engine.withheld_capabilities(status) == 1 << 24


class TestInstalling:
    """Packages of the distribution, with an apt that only looks like one."""

    @pytest.fixture
    def install(self, programs: Path, tmp_path: Path):
        """Install with an apt-get whose `install` fails as long as `broken` is there."""
        broken = tmp_path / "broken"
        put(
            programs,
            "apt-get",
            f'#!/bin/sh\n[ "$1" = update ] || [ ! -e {broken} ] || {{ cat {broken}; exit 100; }}\n',
        )
        put(programs, "dpkg", f"#!/bin/sh\n: >{broken}.mended\nexec unlink {broken}\n")
        (programs / "unlink").symlink_to("/usr/bin/unlink")

        def install(said: str) -> list[str]:
            broken.write_text(said)
            doing: list[str] = []
            packages.install(("docker.io",), log=tmp_path / "log", progress=doing.append)
            return doing

        return install

    def test_an_interrupted_installation_is_finished_first(self, install) -> None:
        doing = install("E: dpkg was interrupted, you must run 'dpkg --configure -a'\n")
        assert "finishing it: dpkg --configure -a" in doing[-1]

    def test_another_failure_says_what_to_do(self, install, tmp_path: Path) -> None:
        with pytest.raises(CannotRunError, match="No space left") as stopped:
            install("E: No space left on device\n")
        assert "install docker.io yourself" in stopped.value.do
        assert not (tmp_path / "broken.mended").exists()


def test_a_daemon_of_ours_that_does_not_answer_is_not_started_twice(
    programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = tmp_path / "cache" / "engine" / "dockerd.json"
    record.parent.mkdir(parents=True)
    (record.parent / "dockerd.pid").write_text(str(os.getpid()))
    started = engine._start_time(os.getpid())
    record.write_text(json.dumps({"pid": os.getpid(), "started": started}))
    with pytest.raises(CannotRunError, match=r"was started from here, does not answer"):
        engine._forget_ended_daemon()
    record.write_text(json.dumps({"pid": os.getpid(), "started": "1"}))
    engine._forget_ended_daemon()
    assert list(record.parent.iterdir()) == []


class TestBoundedRuntime:
    """The runtime for machines that withhold capabilities."""

    @pytest.fixture
    def call(self, programs: Path, tmp_path: Path):
        """Call it with a bounding set of one's choice; runc is a program that prints its words."""
        put(programs, "runc", '#!/bin/sh\necho "$@"\n')
        status = tmp_path / "status"
        script = engine.RUNTIME.read_text().replace("/proc/self/status", str(status))
        put(programs, "runtime", script)

        def call(*args: str, without: int | None) -> str:
            everything = (1 << 41) - 1
            missing = 0 if without is None else 1 << without
            status.write_text(f"CapBnd:\t{everything & ~missing:016x}\n")
            return subprocess.run(
                ["runtime", *args], capture_output=True, text=True, check=True
            ).stdout

        return call

    @pytest.fixture
    def spec(self, tmp_path: Path) -> Path:
        names = ["CAP_CHOWN", "CAP_SYS_RESOURCE", "CAP_CHECKPOINT_RESTORE"]
        data = {
            "process": {
                "capabilities": {"bounding": names, "effective": ["CAP_SYS_RESOURCE"]},
                "env": ['SAYS="CAP_SYS_RESOURCE",'],
            }
        }
        file = tmp_path / "config.json"
        file.write_text(json.dumps(data, separators=(",", ":")))
        return file

    @pytest.mark.parametrize("flag", [["--bundle", "{}"], ["--bundle={}"], ["-b", "{}"]])
    def test_drops_what_is_withheld(self, call, spec: Path, flag: list[str]) -> None:
        args = [word.format(spec.parent) for word in flag]
        said = call("--root", "/run/x", "create", *args, "box", without=24)
        assert said.split() == ["--root", "/run/x", "create", *args, "box"]
        process = json.loads(spec.read_text())["process"]
        assert process["capabilities"] == {
            "bounding": ["CAP_CHOWN", "CAP_CHECKPOINT_RESTORE"],
            "effective": [],
        }
        assert process["env"] == ['SAYS="CAP_SYS_RESOURCE",']

    def test_drops_it_from_an_exec_too(self, call, spec: Path) -> None:
        call("exec", "--process", str(spec), "box", without=40)
        bounding = json.loads(spec.read_text())["process"]["capabilities"]["bounding"]
        assert bounding == ["CAP_CHOWN", "CAP_SYS_RESOURCE"]

    def test_changes_nothing_where_nothing_is_withheld(self, call, spec: Path) -> None:
        before = spec.read_text()
        call("create", "--bundle", str(spec.parent), "box", without=None)
        assert spec.read_text() == before


class TestStopping:
    """Only the daemon that was started from here is stopped."""

    @pytest.fixture
    def daemon(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        """A process that stands for dockerd, and the note about it."""
        monkeypatch.setenv("E2E_CACHE", str(tmp_path))
        process = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
        record = tmp_path / "engine" / "dockerd.json"
        record.parent.mkdir()
        started = engine._start_time(process.pid)
        record.write_text(json.dumps({"pid": process.pid, "started": started}))
        yield process
        process.kill()
        process.wait()

    def test_stops_it(self, daemon) -> None:
        assert engine.stop_engine() == f"stopped dockerd (process {daemon.pid})"
        assert daemon.wait(5) == -signal.SIGTERM
        assert engine.stop_engine() == "no engine was started from here"

    def test_leaves_another_process_with_that_number_alone(self, daemon, tmp_path: Path) -> None:
        record = tmp_path / "engine" / "dockerd.json"
        record.write_text(json.dumps({"pid": daemon.pid, "started": "1"}))
        assert "has ended already" in engine.stop_engine()
        assert daemon.poll() is None
        assert not record.exists()


def test_a_daemon_that_ends_at_once_is_named_with_its_last_words(
    programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(programs, "docker", WITHOUT_DAEMON)
    put(programs, "dockerd", "#!/bin/sh\necho no room on the disk >&2\nexit 3\n")
    monkeypatch.setattr(engine, "refuse_to_install", lambda: None)
    monkeypatch.setattr(engine, "_has_systemd", lambda: False)
    with pytest.raises(CannotRunError, match=r"code 3\n.*no room on the disk"):
        engine.ensure_engine(Steps(quiet=True))
    assert not (tmp_path / "cache" / "engine" / "dockerd.json").exists()


def test_a_daemon_is_started_and_outlives_us(
    programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    up = tmp_path / "up"
    put(programs, "docker", f"#!/bin/sh\n[ -f {up} ] && echo 20.10.24 || exit 1\n")
    put(programs, "dockerd", f'#!/bin/sh\necho "$@" > {up}\nexec sleep 30\n')
    monkeypatch.setattr(engine, "refuse_to_install", lambda: None)
    monkeypatch.setattr(engine, "_has_systemd", lambda: False)
    monkeypatch.setattr(engine, "withheld_capabilities", lambda: 1 << 24)
    found = engine.ensure_engine(Steps(quiet=True))
    assert found.version == "20.10.24"
    assert "--default-runtime bounded" in up.read_text()
    noted = json.loads((tmp_path / "cache" / "engine" / "dockerd.json").read_text())
    assert os.getsid(noted["pid"]) == noted["pid"]
    up.unlink()
    assert engine.stop_engine() == f"stopped dockerd (process {noted['pid']})"
    wait_until(lambda: engine._start_time(noted["pid"]) is None, what="its end", within=60)
