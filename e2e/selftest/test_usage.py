"""Bad input: one plain message that names it and what is allowed, and exit code 4."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from e2e import cli
from e2e.errors import CannotRunError, RefusedError, StopError, UsageError
from e2e.fixtures.nodes import TAINT
from e2e.provider.lane import FAMILIES, PROXIES, SHAPES, Lane
from e2e.provider.pins import read_pins
from e2e.provider.wellness import LOST
from e2e.report.outputs import MADE, MARK
from e2e.selftest.programs import CHECKOUT, environment, only_path, put, python

VERSION = "v1.37.2"
KIND_NAME = re.compile(r"[a-z0-9.-]+")  # as kind itself checks it

CLI = ("e2e.cli", "run")
PYTEST = ("pytest", "-p", "no:cacheprovider", "e2e/contract")


@pytest.fixture
def variables(tmp_path: Path) -> dict[str, str]:
    """The variables of a user whose machine has no engine and no kind."""
    return environment(tmp_path, only_path(tmp_path / "bin"))


def ended(done: "subprocess.CompletedProcess[str]") -> str:
    """Give what was said by a program that bad input has ended, and see that it ended well."""
    said = done.stdout + done.stderr
    assert done.returncode == 4, said
    assert "Traceback" not in said
    assert "internal error" not in said.lower()
    return said


def test_what_nobody_foresaw_is_no_verdict(monkeypatch, capsys):
    """Python itself would end with 1, which says that a clause did not hold."""
    monkeypatch.setattr(cli.signal, "signal", lambda *_: None)
    monkeypatch.setattr(cli.group, "main", lambda **_: 1 / 0)

    with pytest.raises(SystemExit) as caught:
        cli.main()

    assert caught.value.code == 2
    assert "ZeroDivisionError" in capsys.readouterr().err


BAD = {
    "proxy": ("E2E_PROXY", "ebpf", "PROXY=ebpf is unknown", "iptables, nftables"),
    "family": ("E2E_FAMILY", "ipv5", "FAMILY=ipv5 is unknown", "ipv4, ipv6, dual"),
    "shape": ("E2E_SHAPE", "a-square", "SHAPE=a-square is unknown", "two-workers"),
    "families": ("E2E_FAMILIES", "core quick", "called quick", "core, extended, disruptive, slow"),
    "only": ("E2E_ONLY", "reach DP-99", "no clause is called DP-99", "docs/contract.md"),
    "blanks": ("E2E_ONLY", " ", "--only names nothing: ' '", "leave it out"),
    "cluster": ("E2E_CLUSTER_NAME", "My one", "can be called 'My one'", "small letters"),
    "provider": ("E2E_PROVIDER", "cloud", "cloud", "existing"),
}


@pytest.mark.parametrize(
    ("entry", "case"),
    [*[(CLI, case) for case in BAD], *[(PYTEST, case) for case in ("proxy", "only", "provider")]],
)
def test_a_word_that_is_unknown_is_named_with_those_that_are_known(variables, entry, case):
    """A variable with a bad value ends a run at once: nothing is made, and what helps is said."""
    variable, value, what, allowed = BAD[case]

    said = ended(python(*entry, env=variables | {variable: value}))

    assert what in said
    assert allowed in said
    assert len(said.strip().splitlines()) <= 4
    assert not Path(variables["E2E_CACHE"]).exists()
    assert list(Path(variables["TMPDIR"]).iterdir()) == []


@pytest.mark.parametrize("entry", [CLI, PYTEST], ids=["cli", "pytest"])
def test_an_option_that_is_unknown_is_named(variables, entry):
    """A slip in the name of an option is told with that name."""
    assert "--proxi" in ended(python(*entry, "--proxi=nftables", env=variables))


def test_a_number_that_is_none_is_named(variables):
    """A count of processes that is no number is told as it was given."""
    assert "'many'" in ended(python(*CLI, env=variables | {"E2E_PROCESSES": "many"}))


def test_empty_variables_mean_nothing(variables):
    """A variable that is set to nothing, as make does, is as good as none."""
    empty = dict.fromkeys(
        ["E2E_K8S", "E2E_PROXY", "E2E_FAMILY", "E2E_SHAPE", "E2E_NODE_IMAGE", "E2E_KEEP"], ""
    )

    done = python(*CLI, "--provider=existing", env=variables | empty)

    assert done.returncode == 3, done.stdout + done.stderr


def test_a_version_that_is_nowhere_is_named_with_those_that_are_known(variables, tmp_path):
    """A version that is neither published nor pinned is told with all that are pinned."""
    put(tmp_path / "bin", "kind", "#!/bin/sh\necho kind v99.0.0 go1.26 linux/amd64\n")
    put(
        tmp_path / "bin",
        "docker",
        '#!/bin/sh\n[ "$1" = version ] && echo 28.2.2 && exit\necho manifest unknown\nexit 1\n',
    )

    said = ended(python(*CLI, env=variables | {"E2E_K8S": "v9.9.9"}))

    assert "Kubernetes v9.9.9 is not known here" in said
    assert "manifest unknown" in said
    for version in read_pins().releases:
        assert version in said


def test_without_an_engine_a_run_cannot_begin(variables):
    """Good input on a machine without an engine ends with 2, and says what to do."""
    done = python(*CLI, env=variables)

    assert done.returncode == 2
    assert "no container engine works here" in done.stderr
    assert "what to do: start Docker or Podman" in done.stderr
    assert "Traceback" not in done.stderr


def test_help_needs_nothing_and_names_every_variable(variables):
    """`run --help` works on a bare machine and shows each option with its variable."""
    done = python(*CLI, "--help", env=variables)

    assert done.returncode == 0
    for name in ("K8S", "PROXY", "FAMILY", "SHAPE", "KEEP", "PROVIDER", "KUBE_CONTEXT", "OUT"):
        assert f"E2E_{name}" in done.stdout


BROKEN = {
    "no YAML": ("kind: [Cluster\nnodes: ]\n", r"line \d+ is no YAML"),
    "no text": ("kind: \xff", "is no text"),
    "no kind config": ("kind: Pod\n", "is no kind config"),
    "a list": ("- kind: Cluster\n", "is no kind config"),
    "empty": ("", "is no kind config"),
    "networking of nothing useful": ("kind: Cluster\nnetworking: [ipv4]\n", "is no kind config"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_shape_that_is_broken_is_named_before_anything_is_made(tmp_path, case):
    """A file that is no kind config is told by its name as soon as a lane is asked for."""
    text, why = BROKEN[case]
    file = tmp_path / "mine.yaml"
    file.write_bytes(text.encode("latin-1"))

    with pytest.raises(UsageError, match=rf"^{file} ?{why}"):
        Lane(VERSION, shape=str(file))


def test_a_broken_shape_ends_a_run_with_4(variables, tmp_path):
    """The same holds for a whole run, which asks for no engine before."""
    file = tmp_path / "mine.yaml"
    file.write_text("kind: [Cluster\n")

    assert f"{file} line " in ended(python(*CLI, f"--shape={file}", env=variables))


@pytest.mark.parametrize("proxy", PROXIES)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("shape", sorted(path.stem for path in SHAPES.glob("*.yaml")))
def test_every_lane_gives_a_kind_config(proxy, family, shape):
    """Each shape takes each proxy mode and IP family, and a name that kind takes."""
    lane = Lane(VERSION, proxy, family, shape)

    config = yaml.safe_load(lane.kind_config())

    assert config["kind"] == "Cluster"
    assert config["networking"]["kubeProxyMode"] == proxy
    assert config["networking"]["ipFamily"] == family
    assert any(node["role"] == "control-plane" for node in config["nodes"])
    assert KIND_NAME.fullmatch(lane.cluster_name)


def test_a_shape_of_six_nodes():
    nodes = yaml.safe_load(Lane(VERSION, shape="five-workers").kind_config())["nodes"]

    assert [node["role"] for node in nodes] == ["control-plane", *["worker"] * 5]


def test_a_shape_with_a_worker_that_is_tainted_when_it_joins():
    """By a taint of its own: the clause that taints a node takes its own one away again."""
    nodes = yaml.safe_load(Lane(VERSION, shape="tainted-worker").kind_config())["nodes"]
    patches = [
        [yaml.safe_load(patch) for patch in node.get("kubeadmConfigPatches", [])] for node in nodes
    ]

    assert [node["role"] for node in nodes] == ["control-plane", "worker", "worker"]
    assert patches[:2] == [[], []]
    ((joins,),) = patches[2:]
    (taint,) = joins["nodeRegistration"]["taints"]
    assert (joins["kind"], taint["effect"]) == ("JoinConfiguration", "NoSchedule")
    assert taint["key"] not in (TAINT, *LOST)


def test_no_two_lanes_share_a_cluster():
    """Every version, proxy mode, IP family and shape has a cluster name of its own."""
    lanes = [
        Lane(version, proxy, family, shape.stem)
        for version in read_pins().releases
        for proxy in PROXIES
        for family in FAMILIES
        for shape in SHAPES.glob("*.yaml")
    ]

    assert len({lane.cluster_name for lane in lanes}) == len(lanes)
    assert max(len(lane.cluster_name) for lane in lanes) <= 63 - len("-control-plane")


def test_a_shape_of_one_s_own_is_taken_as_it_is(tmp_path):
    """A kind config anywhere on the disk is a shape; its name makes a name that kind takes."""
    file = tmp_path / "My shape_2 (no CNI).yaml"
    file.write_text(
        "kind: Cluster\nnetworking: {disableDefaultCNI: true, ipFamily: ipv6}\n"
        "nodes: [{role: control-plane}]\nkubeadmConfigPatches:\n"
    )

    lane = Lane(VERSION, family="ipv6", shape=str(file))

    config = yaml.safe_load(lane.kind_config())
    assert config["networking"] == {
        "disableDefaultCNI": True,
        "ipFamily": "ipv6",
        "kubeProxyMode": "iptables",
    }
    assert KIND_NAME.fullmatch(lane.cluster_name)


@pytest.mark.parametrize(
    ("networking", "what", "do"),
    [
        ("ipFamily: dual", "ipFamily: dual, and FAMILY is ipv4", "give FAMILY=dual, or take"),
        ("kubeProxyMode: nftables", "and PROXY is iptables", "give PROXY=nftables, or take"),
        ("kubeProxyMode: none", "kubeProxyMode: none, and", "take kubeProxyMode out"),
    ],
)
def test_a_shape_that_contradicts_the_lane_is_named(tmp_path, networking, what, do):
    """What a shape says and what is asked for must be one, or the summary would tell a lie."""
    file = tmp_path / "mine.yaml"
    file.write_text(f"kind: Cluster\nnetworking: {{{networking}}}\n")

    with pytest.raises(UsageError) as caught:
        Lane(VERSION, shape=str(file))

    assert what in caught.value.what
    assert caught.value.do.startswith(do)


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
def test_make_takes_a_lane_as_it_is_printed():
    """Its four words are four options, of which each may be given by itself too."""

    def asked(*argv):
        # What make knows, without a recipe that is run.
        told = subprocess.run(
            ["make", "--print-data-base", "--dry-run", "help", *argv],
            cwd=CHECKOUT, env={"PATH": os.environ["PATH"]}, check=False, capture_output=True,
            text=True,
        )  # fmt: skip
        known = dict(re.findall(r"^E2E_(\w+) := (.*)$", told.stdout, re.MULTILINE))
        return told, [known.get(name) for name in ("K8S", "PROXY", "FAMILY", "SHAPE")]

    printed = str(Lane(VERSION, "nftables", "dual", "three-workers"))

    assert asked(f"LANE={printed}")[1] == [VERSION, "nftables", "dual", "three-workers"]
    assert asked(f"LANE={printed}", "PROXY=iptables")[1][1] == "iptables"
    assert asked("K8S=v1.36.3")[1] == ["v1.36.3", "", "", ""]
    done, _ = asked("LANE=nftables")
    assert done.returncode == 2
    assert 'LANE="nftables" has not four words' in done.stderr


MAKES_VENV = """#!/bin/sh
for folder; do :; done
rm -rf "$folder/bin"; mkdir -p "$folder/bin"
printf '#!/bin/sh\\n' > "$folder/bin/pip"; chmod +x "$folder/bin/pip"
echo "$@" > made
"""


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
def test_half_an_environment_is_made_anew(tmp_path):
    """As Ctrl-C in its first seconds leaves it: an interpreter, and no pip."""
    shutil.copy(CHECKOUT / "Makefile", tmp_path)
    (tmp_path / "requirements.lock").touch()
    (tmp_path / ".venv").mkdir()
    half, fake = put(tmp_path / ".venv" / "bin", "python", ""), put(tmp_path, "fake", MAKES_VENV)
    argv = ["make", "environment", f"PYTHON={fake}"]

    for _ in range(2):
        done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=True)

    assert not half.exists()
    assert "--clear .venv" in (tmp_path / "made").read_text()
    assert "there already" in done.stdout


@pytest.mark.parametrize(
    ("argv", "code", "left"),
    [((), 2, False), (("--provider=existing",), 3, True), (("--k8s=banana",), 4, True)],
)
def test_results_of_an_earlier_run_go_unless_this_one_is_refused(variables, argv, code, left):
    """Nobody takes old results for new ones, and a run that is refused touches nothing."""
    out = Path(variables["E2E_OUT"])
    (out / "evidence" / "a.clause").mkdir(parents=True)
    for name in MADE:
        (out / name).touch()

    done = python(*CLI, *argv, env=variables)

    assert done.returncode == code, done.stderr
    assert {file.name for file in out.iterdir()} == ({"evidence", *MADE} if left else {MARK})


@pytest.mark.parametrize("name", ["evidence", "shards", "clusters"])
@pytest.mark.parametrize("argv", [("run",), ("soak",), ("faults", "--fault=slow-start")])
def test_folders_that_no_run_made_are_not_replaced(variables, argv, name):
    """Whoever names a folder for results may have others there that are called as ours are."""
    theirs = Path(variables["E2E_OUT"]) / name / "theirs"
    theirs.mkdir(parents=True)

    done = python(*CLI[:1], *argv, env=variables)

    assert done.returncode == 4, done.stderr
    assert f"{theirs.parent} was not made by a run" in done.stderr
    assert theirs.exists()


def test_clean_without_an_engine_says_what_it_could_not_look_for(variables):
    """Clusters that are noted but out of reach are named, with exit code 2; with none it is 0."""
    assert python("e2e.cli", "clean", env=variables).returncode == 0
    noted = Path(variables["E2E_CACHE"]) / "clusters" / "mine" / "made.json"
    noted.parent.mkdir(parents=True)
    noted.write_text("{}")

    done = python("e2e.cli", "clean", env=variables)

    assert done.returncode == 2
    assert "mine could not be looked for: no container engine answers" in done.stderr
    assert "what to do: start the engine" in done.stderr


def test_a_shape_without_networking_gets_the_lane_s(tmp_path):
    """A kind config that says nothing of networking, or nothing under it, is completed."""
    for text in ("kind: Cluster\n", "kind: Cluster\nnetworking:\n"):
        (tmp_path / "plain.yaml").write_text(text)
        lane = Lane(VERSION, "nftables", "dual", str(tmp_path / "plain.yaml"))

        networking = yaml.safe_load(lane.kind_config())["networking"]

        assert networking == {"kubeProxyMode": "nftables", "ipFamily": "dual"}


def test_known_situations_have_their_exit_codes():
    """Could not run is 2, refused is 3, usage is 4; what to do follows on a line of its own."""
    codes = {kind: kind("x").exit_code for kind in (CannotRunError, RefusedError, UsageError)}

    assert codes == {CannotRunError: 2, RefusedError: 3, UsageError: 4}
    assert str(StopError("it broke", "mend it")) == "it broke\n  what to do: mend it"
    assert str(StopError("it broke")) == "it broke"
