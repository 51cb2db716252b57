"""`nodeport-e2e run --in-cluster`: a Job of the cluster asks the contract, a shard a pod."""

import shlex
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import click

from e2e import timing
from e2e.cluster import cap, lease, leftovers
from e2e.cluster.api import Api, ApiRefusedError
from e2e.cluster.job import SUCCEEDED, Job, ShardPod, usual
from e2e.cluster.namespace import OF_JOB
from e2e.commands.merge import last_screen, merge_into
from e2e.errors import CannotRunError, HinderedError, RefusedError, StopError, UsageError
from e2e.fixtures.actors import demand_pods
from e2e.fixtures.sample import at_most_through
from e2e.options import PROCESSES
from e2e.provider import existing, harness_image
from e2e.provider.engine import Engine
from e2e.provider.interrupts import shielded
from e2e.provider.lane import Lane
from e2e.provider.steps import Steps
from e2e.provider.wellness import containers_of
from e2e.report import outputs
from e2e.report.clauses import choose, part_of
from e2e.report.framed import BEGIN, unpack
from e2e.report.merge import find
from e2e.report.result import RESULT, Result
from e2e.report.shard import Shard
from e2e.screen import say
from e2e.wait import WaitedInVainError, wait_until

# So often a log is asked for that has to have a result, in as many looks.
LOG_TIMES = 30
# Likewise of one that was ended by us: a part of its shard, or nothing.
LAST_LOOKS = 2
# What is told of a pod that brought nothing.
LAST_WORDS = 12
# For which something may be left.
TROUBLES = (StopError, ApiRefusedError, WaitedInVainError)


def _is_done(pod: ShardPod) -> bool:
    """Whether it asked its shard to the end, which its container may know before its phase."""
    return pod.exit_code == 0 or pod.phase == SUCCEEDED


@dataclass
class Watched:
    """What is known of the pods of a Job, looked at again and again.

    Attributes:
        job: theirs.
        folder: where the results of the shards go.
        steps: tells.
        said: what was told of each pod.
        brought: the pods of which there is a result, or the last words.
        done: the shards that were asked to their end.
        lost: pods that ended without having done that, with why.
        hindered: since when each of those that cannot begin is known to be, by `time.monotonic`.
        asked: how often the log of each pod had no result.
        known: the pods that were seen, each as it was the last time.
        hitch: why what a pod may have brought could not be had or kept.
    """

    job: Job
    folder: Path
    steps: Steps
    said: dict[str, list[str]] = field(default_factory=dict)
    brought: set[str] = field(default_factory=set)
    done: set[int] = field(default_factory=set)
    lost: list[str] = field(default_factory=list)
    hindered: dict[str, float] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)
    known: dict[str, ShardPod] = field(default_factory=dict)
    hitch: dict[str, str] = field(default_factory=dict)

    def look(self) -> str:
        """Look at all pods, and take what they brought; says how the Job ended, if it did.

        Raises:
            RefusedError, UsageError: the pods refuse.
            HinderedError: none can begin, or what they bring cannot be kept.
        """
        # Before the pods, so that what it says of them is not older than it.
        ended = self.job.ended()
        pods = self.job.pods()
        self.known |= {pod.name: pod for pod in pods}
        for pod in pods:
            self._tell(pod)
            if pod.has_ended and pod.name not in self.brought:
                if not self._take(pod):
                    ended = ""
                    continue
                self.brought.add(pod.name)
        if self._is_stuck(pods) and not ended:
            ended = "Given up"
        gone = set(self.said) - {pod.name for pod in pods} - self.brought
        for name in sorted(gone):
            self.brought.add(name)
            self._lose(f"{name} is gone, and its results with it")
        return ended

    def see_end(self, pods: Sequence[ShardPod]) -> None:
        """Take what pods bring that are ended by us.

        They are gone a moment after their container has ended.
        """
        self.known |= {pod.name: pod for pod in pods}
        ended = [pod for pod in pods if self._may_bring(pod)]
        # One after another, the last of many would be gone by then.
        with ThreadPoolExecutor(len(ended) or 1) as pool:
            logs = [pool.submit(self.job.log, pod.name) for pod in ended]
            for pod, log in zip(ended, logs, strict=True):
                self._take_last(pod, log)

    @property
    def asking(self) -> str:
        """The pods of which more is to come, in words."""
        pods = sorted(self.known.values(), key=lambda pod: pod.number)
        going = [p for p in pods if not p.has_ended and p.name not in self.brought]
        return ", ".join(map(self._name, going)) or "no pod by now"

    def miss(self) -> None:
        """Note the shards of which nothing was brought, once no more will be."""
        for pod in sorted(self.known.values(), key=lambda pod: pod.number):
            has_some = (self.folder / f"{pod.number}" / RESULT).exists()
            if pod.name not in self.brought and not has_some:
                why = f": {self.hitch[pod.name]}" if pod.name in self.hitch else ""
                self.lost.append(f"{self._name(pod)} was ended, and brought no result{why}")

    def _may_bring(self, pod: ShardPod) -> bool:
        # What has asked its shard to the end has written its results.
        looks = LOG_TIMES if _is_done(pod) else LAST_LOOKS
        has_ended = pod.exit_code is not None or pod.has_ended
        return has_ended and pod.name not in self.brought and self.asked[pod.name] < looks

    def _take_last(self, pod: ShardPod, log: Future[str]) -> None:
        # Until its phase says so too, more of its log may come.
        self.asked[pod.name] += pod.has_ended
        try:
            self._keep(log.result(), self.folder / f"{pod.number}", whole=_is_done(pod))
        except UsageError:
            return
        except TROUBLES as error:
            self.hitch[pod.name] = str(error).partition("\n")[0]
            return
        self.brought.add(pod.name)
        self.done |= {pod.number} if _is_done(pod) else set()

    def _is_stuck(self, pods: Sequence[ShardPod]) -> bool:
        """Whether nothing goes on: every pod has ended or is hindered for a while, or is not made.

        Raises:
            HinderedError: and nothing was brought by any.
        """
        now = time.monotonic()
        going = [pod for pod in pods if not pod.has_ended]
        stuck = [pod for pod in going if pod.hindered and pod.phase == "Pending"]
        # Where none is left, the next one is not made.
        waiting = [pod.name for pod in stuck] or ["none"] if stuck == going else []
        self.hindered = {name: self.hindered.get(name, now) for name in waiting}
        waited = [now - since for since in self.hindered.values()]
        if not waiting or min(waited) <= timing.JOB_HINDERED_FOR:
            return False
        why = [f"{self._name(pod)}: {pod.hindered}" for pod in stuck]
        why = why or [f"no pod is made: {self.job.why_no_pods() or 'the cluster does not say why'}"]
        if not self.brought:
            raise HinderedError(
                f"no pod can begin: {why[0]}",
                "see whether the nodes can pull the image of --image, and have room for pods",
            )
        for each in why:
            self._lose(f"{each}; nobody waits for it any longer")
        self.brought |= {pod.name for pod in stuck}
        return True

    def _tell(self, pod: ShardPod) -> None:
        what = "is asked to end" if pod.going else pod.phase.lower()
        line = f"shard {pod.number}: {pod.name} on {pod.node or 'no node yet'}: {what}"
        line += f", {pod.hindered}" if pod.hindered else ""
        # What keeps one from beginning may go to and fro, as pulling an image and waiting for that.
        if line not in (said := self.said.setdefault(pod.name, [])):
            said.append(line)
            self.steps.say(line)

    def _take(self, pod: ShardPod) -> bool:
        """Take what a pod brought; False if it has to be asked for again."""
        text = self.job.log(pod.name)
        try:
            self._keep(text, self.folder / f"{pod.number}", whole=pod.phase == SUCCEEDED)
        except CannotRunError as error:
            raise HinderedError(error.what, error.do) from error
        except UsageError as error:
            self.asked[pod.name] += 1
            if pod.phase == SUCCEEDED and self.asked[pod.name] < LOG_TIMES:
                # It has written them, so they are there once its node answers.
                return False
            before, is_damaged, _ = text.partition(BEGIN)
            words = "\n".join(f"    {line}" for line in before.splitlines()[-LAST_WORDS:])
            if pod.exit_code in (RefusedError.exit_code, UsageError.exit_code):
                # Every other pod would say the same.
                kind = RefusedError if pod.exit_code == RefusedError.exit_code else UsageError
                raise kind(f"{pod.name} on {pod.node} refused:\n{words}") from None
            ended = f"ended with {pod.exit_code}" if pod.exit_code is not None else "was lost"
            ended += f", and brought no result{f': {error.what}' if is_damaged else ''}"
            self._lose(f"{self._name(pod)} {ended}\n{words}".rstrip())
            return True
        if pod.phase == SUCCEEDED:
            self.done.add(pod.number)
        else:
            self._lose(f"{self._name(pod)} was ended before it had asked all of its shard")
        return True

    @staticmethod
    def _keep(text: str, folder: Path, *, whole: bool) -> None:
        """Keep the results in a log, but for parts of a shard of which more is known already.

        Raises:
            UsageError: there are none in it.
            CannotRunError: they cannot be written.
        """
        new, known = folder.with_name(f"{folder.name}.new"), folder / RESULT
        try:
            unpack(text, new)
            if known.exists() and not whole:
                results = (Result.load(file) for file in (new / RESULT, known))
                asked, before = (len(result.clauses) for result in results)
                if asked < before:
                    return
            shutil.rmtree(folder, ignore_errors=True)
            new.rename(folder)
        finally:
            shutil.rmtree(new, ignore_errors=True)

    @staticmethod
    def _name(pod: ShardPod) -> str:
        return f"shard {pod.number} by {pod.name} on {pod.node or 'no node'}"

    def _lose(self, why: str) -> None:
        self.lost.append(why.partition("\n")[0])
        self.steps.say(f"x {why}")


def run_in_cluster(
    asked: Mapping[str, Any],
    kubeconfig: Path,
    context: str,
    engine: Engine | None,
    *,
    lane: Lane | None = None,
) -> int:
    """Let a Job ask the contract, and make one report of what its pods bring.

    Args:
        asked: the options of `run`.
        kubeconfig: of a cluster that may be written to.
        context: in that file.
        engine: the container engine, if there is one.
        lane: of the cluster, if a run made it.

    Raises:
        StopError: it cannot be done; nothing is left in the cluster. Of what was brought by then
            there is a report.
    """
    out, steps = Path(asked["out"]).absolute(), Steps(quiet=asked["quiet"] or asked["as_json"])
    count = of_shards(asked)
    run = leftovers.new_run()
    called = _called(asked, lane)
    with _told_anyway(out, called) as begun, ExitStack() as held:
        with outputs.replaced(out):
            shared = held.enter_context(leftovers.alive(run))
            # Its pods take none: it is had for them.
            api = held.enter_context(
                lease.taken(kubeconfig, context, engine, shared, wait=asked["wait"], say=steps.say)
            )
        there = leftovers.in_cluster(api)
        leftovers.remove_in_cluster(api, there)
        leftovers.demand_no_job(there)
        nodes = api.find_all("Node")
        _demand_pods(asked, len(nodes))
        image = asked["image"] or _loaded_image(api, engine, steps)
        said = {name: asked[name] for name in ("only", "families", "shards") if asked[name]}
        variables = {f"E2E_{name.upper()}": str(value) for name, value in said.items()}
        if asked["processes"] != PROCESSES:
            variables["E2E_PROCESSES"] = str(asked["processes"])
        limits = {what: most for what, most in cap.limits().items() if most != cap.ALLOWED[what]}
        variables |= {cap.variable(what): str(most) for what, most in limits.items()}
        job = Job(api, run, f"{OF_JOB}{run}")
        watched = Watched(job, out / outputs.SHARDS, steps)
        begun.append(watched)
        with _removed(watched, steps) as left:
            with steps.step("job", "an Indexed Job, as manifests/job has it") as step:
                job.create(image=image, shards=count, variables=variables, nodes=nodes)
                step.done(f"created {job.namespace} of {count} pods")
            with steps.step("shards", "pods of the cluster ask the contract") as step:
                try:
                    _await(watched, step.progress)
                except WaitedInVainError as error:
                    # What was brought by then is worth a report all the same.
                    watched.lost.append(str(error))
                step.done(f"{len(watched.done)} of {count} were asked to their end")
    result = _merged(out, watched.lost, called)
    if result is None:
        why = "\n  ".join(watched.lost) or "no pod ended"
        raise CannotRunError(f"no shard brought a result:\n  {why}", "see the log of each pod")
    click.echo(last_screen(result, out, as_json=asked["as_json"]))
    return result.exit_code or (CannotRunError.exit_code if left else 0)


@contextmanager
def _told_anyway(out: Path, called: Mapping[str, str]) -> Iterator[list[Watched]]:
    """Make a report of what was brought also where something ends the run, and say where it is.

    Yields:
        what is watched, to be added as soon as results in the folder are of this run.
    """
    begun: list[Watched] = []
    try:
        yield begun
    except BaseException as error:
        said = str(error).partition("\n")[0]
        why = "stopped by you" if isinstance(error, KeyboardInterrupt) else said
        with shielded(say):
            for watched in begun:
                try:
                    if _merged(out, [*watched.lost, f"the run was ended: {why}"], called):
                        say(f"what was brought by then: {out / outputs.PAGE}")
                    elif watched.known:
                        say("\n".join(["no pod brought anything by then:", *watched.lost]))
                except StopError as trouble:
                    say(f"x of what was brought, in {watched.folder}, there is no report: "
                        f"{trouble}")  # fmt: skip
        raise


def _merged(out: Path, missing: Sequence[str], called: Mapping[str, str]) -> Result | None:
    """The report of what shards brought, if any did."""
    shards = out / outputs.SHARDS
    if not list(shards.glob(f"*/{RESULT}")):
        return None
    given, unread = find([shards], out)
    return merge_into(out, given, [*unread, *missing], **called)


def _called(asked: Mapping[str, Any], lane: Lane | None) -> dict[str, str]:
    """How the cluster and the command are called here; to a pod it is but the one that it is in."""
    if lane:
        where, command = f"lane: {lane}", "make e2e"
        which = {"K8S": lane.version, "PROXY": lane.proxy}
        which |= {"FAMILY": lane.family, "SHAPE": lane.shape}
    else:
        where, command = f"cluster: {asked['kube_context']}", "make e2e-here"
        which = {"CONTEXT": asked["kube_context"]}
    which |= {"IN_CLUSTER": "1", "SHARDS": asked["shards"], "IMAGE": asked["image"]}
    which |= {"FAMILIES": asked["families"], "ONLY": asked["only"]}
    words = [f"{name}={value}" for name, value in which.items() if value]
    return {"where": where, "reproduce": shlex.join([*command.split(), *words])}


def of_shards(asked: Mapping[str, Any]) -> int:
    """How many shards are asked for, none of them empty.

    Raises:
        UsageError: it is no number, or one of them would be empty.
    """
    last = _last_shard(asked)
    part_of(choose(asked["only"], asked["families"], ours=False), last, ours=False)
    return last.of


def _last_shard(asked: Mapping[str, Any]) -> Shard:
    by, _, of = str(asked["shards"]).rpartition(":")
    return Shard.parse(f"{by}{':' if by else ''}{of}/{of}")


def _demand_pods(asked: Mapping[str, Any], nodes: int) -> None:
    """Go on only if each pod may have as many pods as its shard wants.

    Each would say so itself, and the Job start it again and again.

    Raises:
        CannotRunError: one of them may not.
    """
    clauses, last = choose(asked["only"], asked["families"], ours=False), _last_shard(asked)
    processes = asked["processes"]
    if processes == PROCESSES:
        processes = int(usual("E2E_PROCESSES"))
    # Of nodes the first shard asks all that others ask, and none may look through more of them.
    for number in range(1, 2 if last.by == "nodes" else last.of + 1):
        shard = replace(last, number=number)
        through = at_most_through(nodes, shard)
        demand_pods(part_of(clauses, shard, ours=False), through, processes or 1)


def _loaded_image(api: Api, engine: Engine | None, steps: Steps) -> str:
    """The image of this harness, on every node of a kind cluster of this machine.

    Raises:
        UsageError: it is another cluster, whose nodes pull images.
    """
    name = existing.kind_cluster_at(api.server, engine) if engine else None
    if engine is None or name is None:
        raise UsageError(
            "only nodes of kind on this machine can be given the image of this harness",
            "name one that the nodes can pull: --image=REFERENCE; see Dockerfile",
        )
    archive, reference = harness_image.build(steps), harness_image.reference()
    nodes = [each.name for each in containers_of(name, engine) if each.is_node]
    with steps.step("load", "no registry is needed where nodes have the image") as step:
        with ThreadPoolExecutor(len(nodes)) as pool:
            took = list(pool.map(lambda n: harness_image.load(archive, n, engine), nodes))
        rest = "" if all(took) else ", the others had it"
        step.done(f"{sum(took)} of {len(nodes)} nodes took in {reference}{rest}")
    return reference


@contextmanager
def _removed(watched: Watched, steps: Steps) -> Iterator[list[str]]:
    """Remove the Job with all that its pods made, however this ends, and take what they bring.

    Yields:
        why something is left, in the end; results that were brought are told all the same.
    """
    left: list[str] = []
    try:
        yield left
    finally:
        with shielded(steps.say), steps.step("clean-up", "nothing of it stays") as step:
            told: list[str] = []

            def see(pods: Sequence[ShardPod]) -> None:
                watched.see_end(pods)
                going = [pod.name for pod in pods if not pod.has_ended]
                ends = f"the end of {', '.join(going)}" if going else "the end of its namespaces"
                if ends not in told:
                    step.progress(f"waiting for {ends}")
                    told.append(ends)

            try:
                watched.job.remove(see)
            except TROUBLES as error:
                left.append(str(error))
                step.ended, step.said = "failed", f"{watched.job.namespace} is left: {error}"
                steps.say("what to do: nodeport-e2e clean --kube-context=...")
            else:
                step.done(f"removed {watched.job.namespace} and what its pods made")
            watched.miss()


def _await(watched: Watched, say: Any) -> None:
    """Wait until the Job has ended and all of its pods were looked at.

    Raises:
        WaitedInVainError: it does not end, though its own deadline is over.
        StopError: as `Watched.look`.
    """
    told: list[str] = []
    at = time.monotonic()

    def is_over() -> bool:
        nonlocal at
        if time.monotonic() - at >= timing.PROGRESS_LOGGED:
            at = time.monotonic()
            say(f"asking: {watched.asking}")
        try:
            ended = watched.look()
        except HinderedError:
            raise
        except (CannotRunError, ApiRefusedError) as error:
            # An API server that is away for a moment does not end what pods do meanwhile.
            line = str(error).partition("\n")[0]
            if told[-1:] != [line]:
                told.append(line)
                say(line)
            return False
        return bool(ended)

    wait_until(
        is_over,
        what="the Job to end",
        within=timing.JOB_ENDS_WITHIN,
        every=timing.JOB_LOOKED_AT_EVERY,
    )
