"""The Job that asks the contract from within: its manifests, its pods, and what they bring back."""

import errno
import io
import re
import shlex
import subprocess
import sys
import tarfile
import threading
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from click.testing import CliRunner

from e2e.cluster import leftovers, namespace
from e2e.cluster.api import Api
from e2e.cluster.denied import of_manifest
from e2e.cluster.job import INDEX, Job, ShardPod
from e2e.cluster.manifest import FOLDER
from e2e.cluster.namespace import RUN_LABEL
from e2e.cluster.node import all_nodes
from e2e.cluster.ports import PortBroker
from e2e.commands import in_cluster
from e2e.commands.in_cluster import Watched, of_shards
from e2e.commands.merge import merge as merge_command
from e2e.commands.shard import of_pod
from e2e.errors import CannotRunError, HinderedError, RefusedError, UsageError
from e2e.fixtures import cluster
from e2e.options import PROCESSES
from e2e.provider import harness_image
from e2e.provider.in_cluster import as_existing, kubeconfig
from e2e.provider.steps import Steps
from e2e.report import framed
from e2e.report.framed import pack, unpack
from e2e.report.result import Result
from e2e.report.shard import Shard
from e2e.selftest.api_server import node
from e2e.selftest.programs import CHECKOUT
from e2e.selftest.runs import failed, held, run
from e2e.selftest.storing_server import CONTEXT, storing_server
from e2e.selftest.test_merge import shard

ASKED = {"quiet": True, "as_json": False, "image": "x", "wait": 0.0, "only": None,
         "families": None, "shards": "2", "processes": 4, "kube_context": CONTEXT}  # fmt: skip

# Results as text.


@pytest.fixture
def results(tmp_path):
    """A folder of results with evidence of two failures, of which one is large."""
    out = tmp_path / "out"
    out.mkdir()
    shard("1/2", failed("a.b"), failed("c.d")).save(out)
    for name, size in (("a.b", 10), ("c.d", 2_000_000)):
        (out / "evidence" / name).mkdir(parents=True)
        # Of what does not get smaller.
        lines = bytes((n * n * 7919 + n // 251) % 256 for n in range(size))
        (out / "evidence" / name / "rules.txt").write_bytes(lines)
    (out / "report.html").write_text("made again from the result")
    return out


def test_results_pass_through_a_log(results, tmp_path):
    text, left = pack(results)
    log = f"17 of 20 clauses\n{text}a last word\n"
    folder = unpack(log, tmp_path / "back")

    assert left == ""
    assert Result.load(folder / "result.json") == Result.load(results / "result.json")
    assert (folder / "evidence/c.d/rules.txt").read_bytes() == (
        results / "evidence/c.d/rules.txt"
    ).read_bytes()
    assert not (folder / "report.html").exists()
    assert max(map(len, text.splitlines())) <= framed.LINE


def test_what_a_log_has_no_room_for_is_left_out_and_told(results, tmp_path):
    text, left = pack(results, most=20_000)

    assert left == "there is no room in a log for the evidence of c.d"
    folder = unpack(text, tmp_path / "back")
    assert [each.name for each in (folder / "evidence").iterdir()] == ["a.b"]


def damaged(text):
    """What is no base64 any longer, where the results were."""
    return re.sub("-----\\n[^-]*", "-----\\nA\\n", text, count=1)


@pytest.mark.parametrize(("change", "says"), [
    (lambda text: "nothing\n", "there are no results in it"),
    (lambda text: text[: len(text) // 2], "not to their end"),
    (lambda text: text.replace("A", "B", 3), "not as they were sent"),
    (damaged, "not as they were sent"),
    (lambda text: text.replace("\n", "\nlost ", 2), "there are no results in it"),
])  # fmt: skip
def test_what_arrives_otherwise_is_no_result(results, tmp_path, change, says):
    with pytest.raises(UsageError, match=says):
        unpack(change(pack(results)[0]), tmp_path / "back")


def test_an_archive_writes_nowhere_else(tmp_path, monkeypatch):
    """Whoever can write into a log is not to write into other folders."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as archive:
        member = tarfile.TarInfo("../outside")
        archive.addfile(member, io.BytesIO(b""))
    (tmp_path / "out").mkdir()
    run(held("a.b")).save(tmp_path / "out")
    monkeypatch.setattr(framed, "_archive", lambda out, chosen: made.getvalue())

    with pytest.raises(UsageError, match="cannot be unpacked"):
        unpack(pack(tmp_path / "out")[0], tmp_path / "back" / "here")
    assert not (tmp_path / "back" / "outside").exists()


def test_the_last_of_several_counts(results, tmp_path):
    first = pack(results)[0]
    run(held("a.b")).save(results)
    folder = unpack(first + pack(results)[0], tmp_path / "back")

    assert Result.load(folder / "result.json").counts.held == 1


def test_logs_of_pods_are_merged(tmp_path, results):
    """As by hand: kubectl apply, kubectl logs, merge."""
    (tmp_path / "one.log").write_text(pack(results)[0])
    (tmp_path / "two.log").write_text("Killed\n")
    said = [str(tmp_path / name) for name in ("one.log", "two.log")]
    ended = CliRunner().invoke(
        merge_command, [*said, "--out", str(tmp_path / "merged")], standalone_mode=False
    )

    assert ended.return_value == 1, ended.output
    assert f"{tmp_path}/two.log is no result" in ended.output
    assert (tmp_path / "merged/evidence/a.b/rules.txt").exists()


# A pod.


@pytest.mark.parametrize(("shards", "index", "mine"), [
    ("2", "0", Shard(2, 1)), ("2", "1", Shard(2, 2)), ("nodes:3", "2", Shard(3, 3, "nodes")),
])  # fmt: skip
def test_a_pod_knows_its_shard_by_its_index(shards, index, mine):
    assert of_pod(shards, {"JOB_COMPLETION_INDEX": index}) == mine


@pytest.mark.parametrize(("shards", "environment", "says"), [
    ("2", {}, "no pod of an Indexed Job"), ("2", {"JOB_COMPLETION_INDEX": "2"}, "is no part"),
    ("some", {"JOB_COMPLETION_INDEX": "0"}, "is no part"),
])  # fmt: skip
def test_what_is_no_such_pod_is_told(shards, environment, says):
    with pytest.raises(UsageError, match=says):
        of_pod(shards, environment)


# Stands for the whole harness: leaves what it is told to leave.
HARNESS = """
import sys
from pathlib import Path
from types import SimpleNamespace
from e2e.commands import shard
from e2e.selftest.runs import held, run

def fake(argv):
    out = Path(next(a for a in argv if a.startswith("--out=")).partition("=")[2])
    print("asked", *argv[-3:])
    if {writes}:
        out.mkdir()
        run(held("a.b"), whole={whole}).save(out)
    return {code}

shard._run = fake
shard.shard(["--shards=2", "--out=" + sys.argv[1]], standalone_mode=False)
"""


@pytest.mark.parametrize(("writes", "whole", "code", "ends", "framed_too"), [
    (True, True, 0, 0, True),
    (True, True, 1, 0, True),  # a verdict is no failure of the pod
    (True, False, 2, 2, True),
    (False, False, 2, 2, False),
    (False, False, 3, 3, False),
    (False, False, 0, 2, False),
])  # fmt: skip
def test_a_pod_succeeds_if_it_asked_its_shard_to_the_end(
    tmp_path, writes, whole, code, ends, framed_too
):
    source = HARNESS.format(writes=writes, whole=whole, code=code)
    ended = subprocess.run(
        [sys.executable, "-c", source, str(tmp_path / "out")], cwd=CHECKOUT, capture_output=True,
        text=True, check=False, env={"JOB_COMPLETION_INDEX": "1", "PATH": "/usr/bin:/bin"},
    )  # fmt: skip

    assert ended.returncode == ends, ended.stderr
    assert "--provider=in-cluster --shard=2/2" in ended.stdout
    assert (framed.BEGIN in ended.stdout) is framed_too
    if framed_too:
        assert unpack(ended.stdout, tmp_path / "back")


def test_the_account_of_a_pod_is_a_kubeconfig_without_a_key(tmp_path, monkeypatch):
    (tmp_path / "token").write_text("secret")
    (tmp_path / "ca.crt").write_text("certificate")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    file = kubeconfig(tmp_path, tmp_path)
    content = yaml.safe_load(file.read_text())

    assert content["clusters"][0]["cluster"]["server"] == "https://[fd00::1]:443"
    assert content["users"][0]["user"] == {"tokenFile": str(tmp_path / "token")}
    assert "secret" not in file.read_text()


def test_who_is_no_pod_is_told_so(tmp_path, monkeypatch):
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(CannotRunError, match="this is no pod with an account"):
        kubeconfig(tmp_path, tmp_path)
    asked = {"provider": "existing", "kubeconfig": "mine"}
    assert as_existing(asked) == asked


def test_pods_of_one_node_are_not_taken_for_one_machine(monkeypatch):
    """In a node's own network both have its name, and neither sees the other's processes."""
    monkeypatch.setenv("E2E_POD", "one")
    mine = leftovers.new_run()
    monkeypatch.setenv("E2E_POD", "other")

    assert not mine.startswith(leftovers.host())


def test_who_makes_the_job_has_the_cluster_for_its_pods(tmp_path, monkeypatch):
    """They are told how much they may use, and in the end nobody has it."""
    monkeypatch.setenv("E2E_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("E2E_ALLOW_CONTEXT", CONTEXT)
    monkeypatch.setenv("E2E_MAX_PODS", "70")
    seen = []

    class Stopped:
        namespace = "nodeport-e2e-job-r"

        def __init__(self, *_): ...

        def create(self, *, variables, **_):
            seen.append((len(server.of("leases")), variables["E2E_MAX_PODS"]))
            raise KeyboardInterrupt

        def remove(self, see): ...

    monkeypatch.setattr(in_cluster, "Job", Stopped)
    asked = ASKED | {"out": tmp_path / "out"}
    with storing_server(tmp_path / "api") as server:
        with pytest.raises(KeyboardInterrupt):
            in_cluster.run_in_cluster(asked, server.kubeconfig, CONTEXT, None)

        assert seen == [(1, "70")]
        assert server.of("leases") == []


@pytest.mark.parametrize(("more", "wanted"), [
    ({"shards": "4"}, 2 * 299 + 3 + 4 + 6 * 4),
    ({"shards": "4", "processes": 2}, 2 * 299 + 3 + 4 + 6 * 2),
    ({"shards": "nodes:1"}, 2 * 299 + 3 + 4 + 6 * 4),
    ({"shards": "nodes:2", "processes": 0}, 2 * 299 + 3 + 4 + 6 * 1),
    ({"shards": "nodes:4"}, 0),
    ({"shards": "2", "only": "defaults"}, 0),
])  # fmt: skip
def test_where_a_pod_may_not_have_what_its_shard_wants_nothing_is_made(
    tmp_path, monkeypatch, more, wanted
):
    """It would end with 2 at once, and the Job start it four times."""
    monkeypatch.setenv("E2E_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("E2E_ALLOW_CONTEXT", CONTEXT)
    made = []

    def make(what):
        made.append(what)
        raise HinderedError("it goes on")

    monkeypatch.setattr(in_cluster, "_loaded_image", lambda *_: make("image"))
    asked = ASKED | {"out": tmp_path / "out", "image": None, "processes": PROCESSES} | more
    says = f"on 299 nodes the clauses want {wanted} pods" if wanted else "it goes on"
    with storing_server(tmp_path / "api") as server:
        for n in range(298):
            server.put("/api/v1", "nodes", node(f"more-{n}", "127.0.0.3"))
        with pytest.raises(CannotRunError, match=says) as ended:
            in_cluster.run_in_cluster(asked, server.kubeconfig, CONTEXT, None)

        assert server.of("leases") == []
    assert made == ([] if wanted else ["image"])
    if wanted:
        assert f"--max-pods={wanted} " in ended.value.do


@pytest.mark.parametrize(("ends", "kind", "told"), [
    (KeyboardInterrupt(), KeyboardInterrupt, "stopped by you"),
    (HinderedError("no pod can begin"), HinderedError, "no pod can begin"),
    (RefusedError("pod-2 refused"), RefusedError, "pod-2 refused"),
])  # fmt: skip
def test_of_a_run_that_is_ended_what_pods_brought_is_a_report(
    tmp_path, monkeypatch, log, capsys, ends, kind, told
):
    """Those that had ended, and those that are ended by it, whose logs go with them."""
    monkeypatch.setenv("E2E_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("E2E_ALLOW_CONTEXT", CONTEXT)
    part = log(2, held("e.f"), asked=("e.f", "g.h"), whole=False)
    there = [pod(1), pod(2, phase="Running", exit_code=2, going=True)]

    class Ended(FakeJob):
        namespace = "nodeport-e2e-job-r"

        def __init__(self, *_):
            super().__init__()
            self.there = there[:1]
            self.logs = {"pod-1": log(1, held("a.b"), held("c.d")), "pod-2": part}

        def create(self, **_): ...

        def why_no_pods(self):
            return ""

        def ended(self):
            if self.there[0].name in asked:
                raise ends
            return ""

        def log(self, name):
            asked.append(name)
            return super().log(name)

        def remove(self, see):
            see(there)

    asked, out = [], tmp_path / "out"
    monkeypatch.setattr(in_cluster, "Job", Ended)
    monkeypatch.setattr("e2e.timing.JOB_LOOKED_AT_EVERY", 0.01)
    with storing_server(tmp_path / "api") as server, pytest.raises(kind):
        in_cluster.run_in_cluster(ASKED | {"out": out}, server.kubeconfig, CONTEXT, None)

    result = Result.load(out / "result.json")
    assert [each.clause for each in result.clauses] == ["a.b", "c.d", "e.f"]
    assert (result.whole, result.exit_code) == (False, 2)
    assert f"the run was ended: {told}" in result.told
    assert f"what was brought by then: {out}/report.html" in capsys.readouterr().err


def test_results_of_an_earlier_run_are_not_told_of_one_that_did_not_begin(tmp_path, monkeypatch):
    out = tmp_path / "out"
    (out / "shards" / "1").mkdir(parents=True)
    shard("1/1", held("a.b")).save(out / "shards" / "1")
    refused = raising(RefusedError("forbidden"))
    monkeypatch.setattr(in_cluster.lease, "taken", refused)
    with pytest.raises(RefusedError):
        in_cluster.run_in_cluster(ASKED | {"out": out}, tmp_path / "none", CONTEXT, None)

    assert not (out / "result.json").exists()


# Namespaces of pods, in a cluster that is a list.


class Namespaces:
    """What of an API server is asked here."""

    def __init__(self):
        self.found = []

    def create(self, body):
        self.found.append(body)
        return body | {"metadata": body["metadata"] | {"uid": "u"}}

    def submit(self, body):
        return body

    def find_all(self, kind, **labels):
        had = [(n, n["metadata"].get("labels", {})) for n in self.found if n["kind"] == kind]
        return [item for item, have in had if labels.items() <= have.items()]


def test_what_pods_of_a_job_by_hand_made_stays_as_long_as_it(monkeypatch):
    """Nobody has the cluster's lease for it, so who has that is not alone."""
    api = Namespaces()
    monkeypatch.setenv("E2E_PART_OF", "nodeport-e2e-job")
    namespace.make(api, "of-pod", "run-b")
    job = {"kind": "Namespace", "metadata": {"name": "nodeport-e2e-job"}}

    api.found.append(job)
    (left,) = leftovers.in_cluster(api, alone=True)
    assert "the Job in nodeport-e2e-job may use it" in left.stays
    api.found.remove(job)
    (left,) = leftovers.in_cluster(api, alone=True)
    assert left.stays == ""


def test_what_a_pod_made_is_of_the_run_that_made_the_job(monkeypatch):
    api = Namespaces()
    namespace.make(api, "alone", "run-a")
    namespace.make(api, "alone", "run-a")  # as when it was cut off after the first time
    monkeypatch.setenv("E2E_PART_OF", "run-of-job")
    namespace.make(api, "of-pod", "run-b")

    assert len(api.found) == 2
    left = {(each.name, each.run) for each in leftovers.in_cluster(api)}
    assert left == {("alone", "run-a"), ("of-pod", "run-of-job")}
    assert namespace.of_run(api, "run-b") == ["of-pod"]
    assert namespace.part_of(api, "run-of-job") == ["of-pod"]


# The Job.


def test_the_job_is_as_its_manifests_say_but_for_names_and_numbers():
    api = Namespaces()
    Job(api, "r", "nodeport-e2e-job-r").create(
        image="registry/x:1",
        shards=4,
        variables={"E2E_SHARDS": "4", "E2E_ONLY": "reach"},
        nodes=[{"metadata": {"labels": {}}}] * 3,
    )
    by_kind = {each["kind"]: each for each in api.found}

    space = by_kind["Namespace"]["metadata"]
    assert (space["name"], space["labels"][RUN_LABEL]) == ("nodeport-e2e-job-r", "r")
    for kind in ("ClusterRole", "ClusterRoleBinding"):
        (owner,) = by_kind[kind]["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["uid"]) == ("Namespace", "u")
        assert by_kind[kind]["metadata"]["name"] == space["name"]
    assert by_kind["ClusterRoleBinding"]["subjects"][0]["namespace"] == space["name"]
    spec = by_kind["Job"]["spec"]
    assert (spec["completions"], spec["parallelism"]) == (4, 4)
    container = spec["template"]["spec"]["containers"][0]
    said = {each["name"]: each.get("value") for each in container["env"]}
    assert container["image"] == "registry/x:1"
    assert len(said) == len(container["env"])
    assert (said["E2E_SHARDS"], said["E2E_ONLY"], said["E2E_PART_OF"]) == ("4", "reach", "r")


def test_pods_are_seen_until_they_have_ended_and_before_their_logs_go(monkeypatch):
    """They have a minute to end, and nothing of their namespace is there afterwards."""
    done, seen = [], []
    phases = iter(["Running", "Running", "Failed"])

    class Ending:
        def delete(self, kind, name, *_, **__):
            done.append(kind)

        def find_all(self, kind, *_):
            return [{
                "metadata": {"name": "p", "creationTimestamp": "now", "annotations": {INDEX: "0"}},
                "spec": {}, "status": {"phase": next(phases)},
            }]  # fmt: skip

    def see(pods):
        done.append("seen")
        seen.append(pods[0].phase)

    monkeypatch.setattr("e2e.timing.POLL_EVERY", 0.01)
    monkeypatch.setattr(namespace, "part_of", lambda *_: [])
    monkeypatch.setattr(namespace, "remove", lambda *_, **__: done.append("Namespace"))
    Job(Ending(), "r", "nodeport-e2e-job-r").remove(see)

    assert seen == ["Running", "Running", "Failed"]
    assert done[: len(seen) + 2] == ["Job", *["seen"] * len(seen), "Namespace"]


@pytest.mark.parametrize(("workers", "operator"), [(2, "Exists"), (3, "DoesNotExist")])
def test_pods_leave_the_nodes_that_clauses_want(workers, operator):
    """A control plane and two workers, of which the node of a pod is none."""
    api = Namespaces()
    plane = {"metadata": {"labels": {"node-role.kubernetes.io/control-plane": ""}}}
    nodes = [plane, *[{"metadata": {"labels": {}}}] * workers]
    Job(api, "r", "n").create(image="x", shards=2, variables={}, nodes=nodes)
    job = next(each for each in api.found if each["kind"] == "Job")

    affinity = job["spec"]["template"]["spec"]["affinity"]["nodeAffinity"]
    (preferred,) = affinity["preferredDuringSchedulingIgnoredDuringExecution"]
    assert preferred["preference"]["matchExpressions"][0]["operator"] == operator


def test_pods_may_do_what_the_contract_needs():
    """Whoever adds a permission for runs from outside adds it for those from within."""
    role = yaml.safe_load((FOLDER / "job" / "3-access.yaml").read_text())
    have = {
        (verb, group, resource)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    needs = {
        (each.verb, each.group, each.resource)
        for each in of_manifest("contract")
        # The Lease of who started the Job keeps others away; who makes Jobs removes them.
        if each.namespace != "default" and each.resource != "jobs"
    }

    assert needs ^ have == set()


def test_the_manifests_fit_together():
    """As they are applied by hand."""
    bodies = [yaml.safe_load(f.read_text()) for f in sorted((FOLDER / "job").glob("*.yaml"))]
    by_kind = {each["kind"]: each for each in bodies}
    spec = by_kind["Job"]["spec"]
    pod = spec["template"]["spec"]
    said = {each["name"]: each for each in pod["containers"][0]["env"]}

    # In the order in which kubectl sends them: the place first.
    kinds = ["Namespace", "ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Job"]
    assert [each["kind"] for each in bodies] == kinds
    assert (
        by_kind["ClusterRoleBinding"]["roleRef"]["name"]
        == (by_kind["ClusterRole"]["metadata"]["name"])
    )
    assert pod["serviceAccountName"] == by_kind["ServiceAccount"]["metadata"]["name"]
    place = by_kind["Namespace"]["metadata"]["name"]
    assert by_kind["Job"]["metadata"]["namespace"] == place
    assert said["E2E_SHARDS"]["value"] == str(spec["completions"]) == str(spec["parallelism"])
    # A caller outside stands in a node's own network, and knows on which.
    assert pod["hostNetwork"] is True
    assert said["E2E_STANDS_ON"]["valueFrom"]["fieldRef"]["fieldPath"] == "spec.nodeName"
    # Pods take no lease, as they would keep each other away.
    assert said["E2E_PART_OF"]["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.namespace"
    # With a policy for failed pods, one whose node is gone would be waited for for ever.
    assert "podFailurePolicy" not in spec
    token = pod["volumes"][-1]["projected"]["sources"][0]["serviceAccountToken"]
    assert token["expirationSeconds"] > spec["activeDeadlineSeconds"]
    assert pod["containers"][0]["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_the_image_is_made_loaded_and_replaced_under_the_name_that_pods_ask_for(tmp_path):
    """By the lines that stand above the Job, for who applies it by hand."""
    text = (FOLDER / "job" / "5-job.yaml").read_text()
    image = yaml.safe_load(text)["spec"]["template"]["spec"]["containers"][0]["image"]
    told = [line.removeprefix("#   ") for line in text.splitlines() if line.startswith("#   ")]
    build, load, replace_it = told

    assert build == f"docker build --tag {image} ."
    assert load == f"kind load docker-image {image} --name mine"
    # A run that loads its own image into nodes removes those of earlier ones, and not this one.
    assert not image.startswith(f"{harness_image.NAME}:")
    copy = tmp_path / "manifests" / "job" / "5-job.yaml"
    copy.parent.mkdir(parents=True)
    copy.write_text(text)
    subprocess.run(shlex.split(replace_it), cwd=tmp_path, check=True)
    body = yaml.safe_load(copy.read_text())
    assert body["spec"]["template"]["spec"]["containers"][0]["image"] == "REFERENCE"


def pod(number=1, name="", phase="Succeeded", **more):
    said = {"node": f"worker-{number}", "exit_code": 0, "hindered": "", "going": False}
    return ShardPod(name or f"pod-{number}", number, phase=phase, **(said | more))


class FakeJob:
    """A Job whose pods and logs are as they are told to be."""

    def __init__(self):
        self.there, self.logs, self.end = [], {}, ""

    def ended(self):
        return self.end

    def pods(self):
        return self.there

    def log(self, name):
        return self.logs.get(name, "")

    def why_no_pods(self):
        return "exceeded quota: few"


@pytest.fixture
def watched(tmp_path):
    return Watched(FakeJob(), tmp_path / "shards", Steps(quiet=True))


@pytest.fixture
def log(tmp_path):
    """The log of a pod that brought a shard."""

    def write(number, *clauses, **more):
        folder = tmp_path / f"in-pod-{number}"
        folder.mkdir(exist_ok=True)
        shard(f"{number}/2", *clauses, **more).save(folder)
        return pack(folder)[0]

    return write


def test_what_pods_bring_is_taken_as_soon_as_they_end(watched, log):
    """Their nodes may be gone later."""
    watched.job.there = [pod(1), pod(2, phase="Running", exit_code=None)]
    watched.job.logs = {"pod-1": log(1, held("a.b"))}
    assert watched.look() == ""
    assert watched.done == {1}
    assert watched.asking.startswith("shard 2 by pod-2 on ")
    watched.job.logs = {"pod-2": log(2, held("c.d"))}
    watched.job.there, watched.job.end = [pod(2)], "Complete"

    assert watched.look() == "Complete"
    assert watched.done == {1, 2}
    assert watched.asking == "no pod by now"
    assert watched.lost == []
    assert {each.name for each in watched.folder.iterdir()} == {"1", "2"}


def test_while_pods_ask_it_is_said_which(watched, log, monkeypatch):
    """Where there is no terminal it is all that is seen of them for minutes."""
    monkeypatch.setattr("e2e.timing.JOB_LOOKED_AT_EVERY", 0.01)
    monkeypatch.setattr("e2e.timing.PROGRESS_LOGGED", 0.0)
    watched.job.there = [pod(1, phase="Running", exit_code=None)]
    watched.job.logs = {"pod-1": log(1, held("a.b"))}
    said = []

    def say(line):
        said.append(line)
        if len(said) == 2:
            watched.job.there, watched.job.end = [pod(1)], "Complete"

    in_cluster._await(watched, say)

    assert said[1].startswith("asking: shard 1 by pod-1 on ")


def test_a_log_that_cannot_be_had_yet_is_asked_for_again(watched, log):
    """A pod that succeeded has written its results, and its node may not answer for a moment."""
    watched.job.there, watched.job.end = [pod(1)], "Complete"
    assert watched.look() == ""
    watched.job.logs = {"pod-1": log(1, held("a.b"))}

    assert watched.look() == "Complete"
    assert (watched.done, watched.lost) == ({1}, [])


def test_a_log_that_has_no_results_is_not_asked_for_for_ever(watched):
    watched.job.there, watched.job.end = [pod(1)], "Complete"
    looks = [watched.look() for _ in range(in_cluster.LOG_TIMES)]

    assert looks == [*[""] * (in_cluster.LOG_TIMES - 1), "Complete"]
    assert watched.lost == ["shard 1 by pod-1 on worker-1 ended with 0, and brought no result"]


def test_a_damaged_log_costs_its_shard_and_not_the_run(watched, log, capsys):
    """Its last words are those before the results, which nobody reads."""
    watched.steps = Steps()
    watched.job.there, watched.job.end = [pod(1), pod(2)], "Complete"
    text = f"17 clauses held\n{damaged(log(1, held('a.b')))}"
    watched.job.logs = {"pod-1": text, "pod-2": log(2, held("c.d"))}
    for _ in range(in_cluster.LOG_TIMES):
        ended = watched.look()

    assert (ended, watched.done) == ("Complete", {2})
    (lost,) = watched.lost
    assert lost == ("shard 1 by pod-1 on worker-1 ended with 0, and brought no result: "
                    "the results in it are not as they were sent")  # fmt: skip
    said = capsys.readouterr().err
    assert said.endswith("not as they were sent\n    17 clauses held\n")


def test_a_pod_that_was_killed_is_told_and_the_next_one_counts(watched, log):
    watched.job.there = [pod(1, "first", phase="Running", exit_code=None)]
    watched.look()
    watched.job.there = [
        pod(1, "first", phase="Failed", exit_code=137),
        pod(1, "second", phase="Running", exit_code=None),
    ]
    watched.job.logs = {"first": "asked 3 of 9"}
    watched.look()
    assert watched.lost == ["shard 1 by first on worker-1 ended with 137, and brought no result"]
    watched.job.there = [pod(1, "second")]
    watched.job.logs = {"second": log(1, held("a.b"))}
    watched.look()

    assert watched.done == {1}
    assert len(watched.lost) == 1


def test_a_pod_that_is_gone_without_a_word_is_told(watched):
    watched.job.there = [pod(1, "first", phase="Running", exit_code=None)]
    watched.look()
    watched.job.there = []
    watched.look()

    assert watched.lost == ["first is gone, and its results with it"]


def test_a_part_of_a_shard_is_better_than_nothing(watched, log):
    part = log(1, held("a.b"), asked=("a.b", "c.d"), whole=False)
    watched.job.there = [pod(1, "first", phase="Failed", exit_code=2)]
    watched.job.logs = {"first": part}
    watched.look()
    assert Result.load(watched.folder / "1/result.json").whole is False
    assert "was ended before it had asked all" in watched.lost[0]
    watched.job.there.append(pod(1, "second"))
    watched.job.logs["second"] = log(1, held("a.b"), held("c.d"))
    watched.look()

    assert Result.load(watched.folder / "1/result.json").whole is True


def test_pods_that_cannot_begin_are_not_waited_for_for_ever(watched, monkeypatch):
    """As one of them alone is."""
    waits = {"phase": "Pending", "exit_code": None, "hindered": "ErrImagePull: no such image"}
    running = pod(2, phase="Running", exit_code=None)
    monkeypatch.setattr("e2e.timing.JOB_HINDERED_FOR", -1.0)
    watched.job.there = [pod(1, **waits), running]
    watched.look()
    watched.job.there = [pod(1, **waits), pod(2, **waits)]

    with pytest.raises(HinderedError, match="shard 1 by pod-1 on worker-1: ErrImagePull"):
        watched.look()


def test_pods_that_are_not_made_are_not_waited_for_for_ever(watched, monkeypatch):
    """Of a quota or an admission rule the Job's events tell."""
    watched.job.there = []
    watched.look()
    monkeypatch.setattr("e2e.timing.JOB_HINDERED_FOR", -1.0)

    with pytest.raises(HinderedError, match="no pod is made: exceeded quota: few"):
        watched.look()


def test_what_others_brought_is_told_of_a_job_that_gets_stuck(watched, log, monkeypatch):
    """A pod that cannot begin is lost, once nothing else is waited for."""
    monkeypatch.setattr("e2e.timing.JOB_HINDERED_FOR", -1.0)
    waits = {"phase": "Pending", "exit_code": None, "hindered": "no node takes it: too full"}
    running = pod(2, phase="Running", exit_code=None)
    watched.job.there = [pod(1, **waits), running]
    watched.job.logs = {"pod-2": log(2, held("a.b"))}
    assert watched.look() == ""
    watched.job.there = [pod(1, **waits), pod(2)]

    assert watched.look() == "Given up"
    ended_by_us(watched, [pod(1, **waits)])
    assert watched.done == {2}
    (lost,) = watched.lost
    assert "no node takes it: too full" in lost


def test_the_larger_part_of_a_shard_is_kept(watched, log):
    """Whichever pod brought it, if no other one brings all of it."""
    brought = (held("a.b"),), (held("a.b"), held("c.d")), (held("a.b"),)
    parts = [log(1, *clauses, asked=("a.b", "c.d", "e.f"), whole=False) for clauses in brought]
    for name, part in zip(("first", "second", "third"), parts, strict=True):
        watched.job.there.append(pod(1, name, phase="Failed", exit_code=2))
        watched.job.logs[name] = part
    watched.look()

    kept = Result.load(watched.folder / "1/result.json")
    assert [clause.clause for clause in kept.clauses] == ["a.b", "c.d"]


def test_what_is_known_stays_until_more_is_there(watched, log):
    """The pod that asked all of it may never tell."""
    part = log(1, held("a.b"), asked=("a.b", "c.d"), whole=False)
    watched.job.there = [pod(1, "first", phase="Failed", exit_code=2), pod(1, "second")]
    watched.job.logs = {"first": part}
    watched.look()

    assert (watched.folder / "1/result.json").exists()


def test_what_a_pod_brings_that_is_ended_is_taken_before_it_is_gone(watched, log):
    """Its container has ended, which a look may see before Kubernetes says that the pod has."""
    watched.job.logs = {"pod-1": log(1, held("a.b")), "pod-2": "asked 3 of 9"}
    ends = {"phase": "Running", "going": True}
    watched.see_end([pod(1, **ends, exit_code=None), pod(2, **ends, exit_code=2)])
    assert not watched.folder.exists()

    watched.see_end([pod(1, **ends), pod(2, **ends, exit_code=2)])
    assert (watched.done, watched.brought) == ({1}, {"pod-1"})
    watched.job.logs = {"pod-2": log(2, held("c.d"), asked=("c.d", "e.f"), whole=False)}
    watched.see_end([pod(2, phase="Failed", exit_code=2)])
    assert (watched.done, watched.brought) == ({1}, {"pod-1", "pod-2"})
    assert Result.load(watched.folder / "2/result.json").whole is False


def test_logs_of_pods_that_end_together_are_taken_together(watched, log):
    """That of the last one is gone by the time that all others were read."""
    texts = {f"pod-{n}": log(n, held("a.b")) for n in (1, 2)}
    all_ask = threading.Barrier(len(texts), timeout=20.0)

    def asked(name):
        all_ask.wait()
        return texts[name]

    watched.job.log = asked
    watched.see_end([pod(1), pod(2)])

    assert watched.done == {1, 2}


def ended_by_us(watched, *looks):
    """Remove the Job, while its pods are seen like this."""

    def remove(see):
        for pods in looks:
            see(pods)

    watched.job.remove, watched.job.namespace = remove, "nodeport-e2e-job-r"
    with in_cluster._removed(watched, Steps(quiet=True)):
        pass


@pytest.mark.parametrize(("how", "times"), [
    ({"phase": "Failed", "exit_code": 2}, in_cluster.LAST_LOOKS),
    ({"phase": "Failed", "exit_code": None}, in_cluster.LAST_LOOKS),
    ({}, in_cluster.LOG_TIMES),  # its node may not answer for a moment
])  # fmt: skip
def test_the_log_of_a_pod_that_brings_nothing_is_not_read_until_all_have_ended(watched, how, times):
    read = []
    watched.job.log = lambda name: read.append(name) or "asked 3 of 9"
    ended_by_us(watched, *[[pod(1, **how)]] * (in_cluster.LOG_TIMES + 9))

    assert read == ["pod-1"] * times
    assert watched.lost == ["shard 1 by pod-1 on worker-1 was ended, and brought no result"]


def test_shards_of_which_nothing_was_brought_are_told(watched, log):
    """However their pods went; not those that another pod had asked in part, nor twice."""
    runs = {"phase": "Running", "exit_code": None}
    part = log(1, held("a.b"), asked=("a.b", "c.d"), whole=False)
    watched.job.there = [pod(1, phase="Failed", exit_code=2), pod(3, phase="Failed", exit_code=137)]
    watched.job.logs = {"pod-1": part, "pod-4": log(4, held("e.f"))}
    watched.look()
    before = list(watched.lost)
    last = [pod(1, "again", **runs), pod(2, **runs), pod(4), pod(5, node="", **runs)]
    ended_by_us(watched, last, [pod(2, **runs)], [])

    assert len(before) == 2
    assert watched.lost[2:] == [
        "shard 2 by pod-2 on worker-2 was ended, and brought no result",
        "shard 5 by pod-5 on no node was ended, and brought no result",
    ]


def test_why_what_was_brought_could_not_be_had_is_told(watched):
    watched.job.log = raising(CannotRunError("the API server does not answer"))
    ended_by_us(watched, *[[pod(1, phase="Failed", exit_code=2)]] * 9)

    (lost,) = watched.lost
    assert lost.endswith("was ended, and brought no result: the API server does not answer")


def test_results_that_cannot_be_kept_end_the_run(watched, log, monkeypatch):
    """And nobody asks for them again for two hours."""
    watched.job.there = [pod(1)]
    watched.job.logs = {"pod-1": log(1, held("a.b"))}
    monkeypatch.setattr(
        "e2e.report.framed.Path.mkdir", raising(OSError(errno.ENOSPC, "No space left on device"))
    )

    with pytest.raises(HinderedError, match="cannot be written to: No space left on device"):
        watched.look()


def raising(error):
    def raise_it(*_, **__):
        raise error

    return raise_it


class Stubborn:
    """A Job that does not go."""

    namespace = "nodeport-e2e-job-r"

    def remove(self, see):
        raise CannotRunError("the API server does not answer")


def stubborn(folder):
    return Watched(Stubborn(), folder / "shards", Steps(quiet=True))


def test_what_was_brought_is_told_though_something_is_left(capsys, tmp_path):
    with in_cluster._removed(stubborn(tmp_path), Steps()) as left:
        assert left == []

    assert left == ["the API server does not answer"]
    said = capsys.readouterr().err
    assert "x clean-up     nodeport-e2e-job-r is left: the API server does not answer" in said
    assert "nodeport-e2e clean --kube-context" in said


def test_what_went_wrong_before_is_not_hidden_by_what_is_left(tmp_path):
    left = in_cluster._removed(stubborn(tmp_path), Steps(quiet=True))
    with pytest.raises(HinderedError), left:
        raise HinderedError("no pod can begin")


@pytest.mark.parametrize(("code", "kind"), [(3, RefusedError), (4, UsageError)])
def test_what_every_pod_would_refuse_ends_the_run(watched, code, kind):
    watched.job.there = [pod(1, phase="Failed", exit_code=code)]
    watched.job.logs = {"pod-1": "this cluster may not be written to"}

    with pytest.raises(kind, match="this cluster may not be written to"):
        watched.look()


def test_a_pod_object_is_read():
    waits = {"waiting": {"reason": "ErrImagePull", "message": "no such image"}}
    body = {
        "metadata": {"name": "p", "annotations": {"batch.kubernetes.io/job-completion-index": "3"},
                     "deletionTimestamp": "now"},
        "spec": {"nodeName": "n"},
        "status": {"phase": "Pending", "containerStatuses": [{"state": waits}]},
    }  # fmt: skip
    assert ShardPod.of(body) == pod(4, "p", phase="Pending", node="n", exit_code=None,
                                    hindered="ErrImagePull: no such image", going=True)  # fmt: skip
    unscheduled = {"type": "PodScheduled", "reason": "Unschedulable", "message": "too full"}
    body["status"] = {"phase": "Pending", "conditions": [unscheduled]}
    assert ShardPod.of(body).hindered == "no node takes it: too full"


@pytest.mark.parametrize(("asked", "says"), [
    ({"shards": "0"}, "is no part"), ({"shards": "x:2"}, "is no part"),
    ({"shards": "2", "only": "reach.three-hops"}, "shard 2/2 is empty"),
    ({"shards": "2", "families": "core disruptive"}, "must be alone with the cluster"),
])  # fmt: skip
def test_shards_that_make_no_sense_are_refused_before_anything_is_made(asked, says):
    with pytest.raises(UsageError, match=says):
        of_shards({"only": None, "families": None} | asked)


def test_so_many_shards():
    assert of_shards({"only": None, "families": None, "shards": "nodes:12"}) == 12
    assert of_shards({"only": None, "families": "all", "shards": "2"}) == 2


def test_nodes_that_are_not_ours_pull_an_image(monkeypatch):
    with pytest.raises(UsageError, match="--image=REFERENCE"):
        in_cluster._loaded_image(None, None, Steps(quiet=True))


# The image.


def test_the_image_has_what_the_harness_needs_and_no_tools_of_its_making():
    needed = harness_image.packages_needed()

    assert {"pytest", "pytest-xdist", "kubernetes", "scipy", "pyyaml", "urllib3"} <= set(needed)
    assert not {"mypy", "ruff", "playwright"} & set(needed)


def test_the_image_is_another_one_as_soon_as_the_source_is(monkeypatch, tmp_path):
    before = harness_image.reference()
    assert before == harness_image.reference()
    (tmp_path / "e2e").mkdir()
    (tmp_path / "e2e" / "cli.py").write_text("")
    (tmp_path / "pyproject.toml").write_text((CHECKOUT / "pyproject.toml").read_text())
    monkeypatch.setattr(harness_image, "ROOT", tmp_path)

    assert harness_image.reference() != before
    (tmp_path / "e2e" / "selftest").mkdir()
    other = harness_image.reference()
    (tmp_path / "e2e" / "selftest" / "test_x.py").write_text("")
    assert harness_image.reference() == other


@pytest.mark.skipif(sys.platform != "linux", reason="it is made on Linux only")
def test_the_libraries_of_a_program_are_found(tmp_path):
    found = harness_image._libraries(tmp_path, Path(sys.executable).resolve())

    names = {path.name.partition(".so")[0] for path in found}
    assert "libc" in names
    assert any(name.startswith("ld-") for name in names)
    assert all(path.exists() for path in found)


def test_an_installed_harness_knows_its_version_in_a_pod(tmp_path, monkeypatch):
    """Its report would say that it was run from a checkout."""
    about = tmp_path / "site" / "nodeport_e2e-9.9.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: nodeport-e2e\nVersion: 9.9\n")
    (about / "RECORD").write_text("nodeport_e2e-9.9.dist-info/METADATA,,\n")
    before = harness_image.reference()
    monkeypatch.syspath_prepend(tmp_path / "site")

    harness_image._fill_source(tmp_path / "tree")

    assert harness_image.reference() != before
    (kept,) = (tmp_path / "tree/opt/nodeport-e2e/lib").glob("*.dist-info")
    assert (kept / "METADATA").read_text() == (about / "METADATA").read_text()


def test_the_source_in_the_image_runs_alone(tmp_path):
    """With the manifests, and without what only developers need."""
    harness_image._fill_source(tmp_path)
    place = tmp_path / "opt/nodeport-e2e/lib"

    assert (place / "e2e/manifests/job/5-job.yaml").exists()
    assert not (place / "e2e/selftest").exists()
    ended = subprocess.run(
        [sys.executable, "-P", "-m", "e2e.cli", "--version"], cwd=tmp_path, capture_output=True,
        text=True, check=False, env={"PYTHONPATH": str(place), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr


def test_a_shard_has_numbers_of_its_own():
    broker = PortBroker(None, range(30000, 32768), Path("x"), ExitStack())
    parts = [replace(broker, share=(n, 3))._shared(range(30000, 30086)) for n in range(3)]

    assert sorted(n for part in parts for n in part) == list(range(30000, 30086))
    assert replace(broker, share=(40, 41))._shared(range(30000, 30004)) == [*range(30000, 30004)]


def test_a_pod_waits_for_nodes_that_are_away(monkeypatch):
    """Else the Job's pods would end one after another, and of their shard nothing is known."""
    looks = [["True", "Unknown"], ["True", "Unknown"], ["True", "True"]]

    class Told:
        def find_all(self, kind):
            assert kind == "Node"
            return [a_node(f"n{at}", ready) for at, ready in enumerate(looks.pop(0))]

    def a_node(name, ready):
        body = node(name, "10.0.0.1")
        body["status"]["conditions"] = [{"type": "Ready", "status": ready}]
        return body

    monkeypatch.setattr("e2e.timing.NODES_BACK_EVERY", 0.01)
    with pytest.raises(CannotRunError, match="nodes that are not Ready: n1"):
        all_nodes(Told())

    assert [each.name for each in all_nodes(Told(), within=20.0)] == ["n0", "n1"]


@pytest.mark.parametrize("in_pod", [True, False])
def test_a_pod_asks_beside_its_own_job_and_nobody_else_does(tmp_path, monkeypatch, in_pod):
    """To it that is one of another machine, as pods know of no processes but their own."""
    run = "00000000-1-abcdef"
    labels = {RUN_LABEL: run}
    body = {"metadata": {"name": f"nodeport-e2e-job-{run}", "labels": labels}}
    if in_pod:
        monkeypatch.setenv(namespace.PART, run)
    with storing_server(tmp_path / "api") as server:
        server.put("/api/v1", "namespaces", body)
        api = Api(server.kubeconfig, CONTEXT)
        asks = partial(cluster._remove_leftovers, api, None, SimpleNamespace(joined=False))
        if in_pod:
            asks()
        else:
            with pytest.raises(CannotRunError, match="may still ask this cluster"):
                asks()
