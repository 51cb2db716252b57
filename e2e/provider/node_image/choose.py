"""Finds the node image of a Kubernetes version: given, local, published, or built here."""

import re
from dataclasses import dataclass
from typing import Literal

from e2e import timing
from e2e.errors import CannotRunError, UsageError
from e2e.provider.command import CommandFailedError
from e2e.provider.engine import Engine
from e2e.provider.node_image.build import (
    build,
    ensure_possible,
    is_current,
    labels_of,
    reference_of,
)
from e2e.provider.pins import read_pins
from e2e.provider.steps import Step, Steps
from e2e.provider.streaming import stream

Origin = Literal["given", "local", "pulled", "built"]

DEFAULT = read_pins().default
SUPPORTED = tuple(read_pins().releases)
AGNHOST = read_pins().agnhost_image


@dataclass(frozen=True)
class NodeImage:
    """An image that kind can make nodes of.

    Attributes:
        reference: its name in the engine.
        version: of Kubernetes, as in `v1.37.2`.
        origin: where it came from.
        why: the reason for that, as words.
    """

    reference: str
    version: str
    origin: Origin
    why: str


def resolve(version: str, engine: Engine, steps: Steps, given: str | None = None) -> NodeImage:
    """Give the node image of a Kubernetes version; make it if there is none.

    Where it can be neither pulled nor built, it is the image that our kind publishes, if that is
    of the same minor version; the result names the version that it has.

    Raises:
        UsageError: the version means nothing, or can neither be pulled nor is known here.
        CannotRunError: there is no such image, and it can neither be pulled nor built.
    """
    if not given and not re.fullmatch(r"v\d+\.\d+\.\d+", version):
        raise UsageError(f"{version!r} is no version of Kubernetes", _known())
    published = f"kindest/node:{version}"
    with steps.step("node image", f"every node of kind is a container of it ({version})") as step:
        if given:
            return _given(given, version, engine, step)
        local = find_local(version, engine)
        if local:
            step.skip(f"{local.reference} is there already ({local.why})")
            return local
        problem = _pull(published, engine, step, first_word_within=timing.REGISTRY_ANSWER)
        if problem is None:
            step.done(f"pulled {published}")
            return NodeImage(published, version, "pulled", "a registry has it")
        if version not in SUPPORTED:
            raise UsageError(
                f"Kubernetes {version} is not known here, and {published} cannot be pulled: "
                f"{problem}",
                _known(),
            )
        try:
            ensure_possible(read_pins())
        except CannotRunError as error:
            return _nearest(version, problem, error, engine, step)
        step.done(f"found that {published} cannot be pulled ({problem}), so it is built here")
    reference = build(version, engine, steps)
    return NodeImage(reference, version, "built", f"{published} cannot be pulled: {problem}")


def _known() -> str:
    return f"name one of {', '.join(SUPPORTED)}, or another that is published as kindest/node"


def _nearest(
    version: str, problem: str, unbuildable: CannotRunError, engine: Engine, step: Step
) -> NodeImage:
    """Take the image that our kind publishes in place of one that cannot be had."""
    pins = read_pins()
    reference = pins.kind_published_image
    other = reference.partition("@")[0].rpartition(":")[2]
    if _minor(other) != _minor(version):
        raise unbuildable
    why = f"{version} cannot be pulled ({problem}) nor built ({unbuildable.what})"
    in_place = f"{reference.partition('@')[0]}, of kind {pins.kind.version}, as {why}"
    if labels_of(engine, reference) is not None:
        step.skip(f"Kubernetes {other} in place of {version}: {in_place}")
    elif _pull(reference, engine, step, first_word_within=timing.REGISTRY_ANSWER):
        raise CannotRunError(f"the node image of {why}", unbuildable.do)
    else:
        step.done(f"Kubernetes {other} in place of {version}: pulled {in_place}")
    return NodeImage(reference, other, "pulled", why)


def _minor(version: str) -> str:
    return version.rpartition(".")[0]


def _given(reference: str, version: str, engine: Engine, step: Step) -> NodeImage:
    found = NodeImage(reference, version, "given", "it was named")
    if labels_of(engine, reference) is not None:
        step.skip(f"{reference} was named and is there already")
        return found
    problem = _pull(reference, engine, step, first_word_within=timing.REGISTRY_ANSWER)
    if problem:
        raise CannotRunError(
            f"the node image {reference} is not here and cannot be pulled: {problem}",
            "name another one by NODE_IMAGE, or none, so that one is found or built",
        )
    step.done(f"pulled {reference}, as named")
    return found


def find_local(version: str, engine: Engine) -> NodeImage | None:
    """The node image of a version, if it is here."""
    if version in SUPPORTED and is_current(engine, version):
        return NodeImage(reference_of(version), version, "local", "it was built here before")
    published = f"kindest/node:{version}"
    if labels_of(engine, published) is not None:
        return NodeImage(published, version, "local", "it was pulled before")
    return None


def _pull(reference: str, engine: Engine, step: Step, *, first_word_within: float) -> str | None:
    """Pull an image; return the reason if that fails."""
    step.progress(f"asking a registry for {reference}")
    try:
        stream(
            [engine.command, "pull", reference],
            lambda line: None if "Pulling fs layer" in line or "Waiting" in line
            else step.progress(line.strip()),
            first_word_within=first_word_within,
            timeout=timing.IMAGE_PULL_WITHIN,
        )  # fmt: skip
    except CommandFailedError as error:
        last = error.said.strip().splitlines()[-1:]
        # What stands before is the engine's own address of what it asked for.
        why = last[0].rpartition('": ')[2].strip() if last else ""
        return why or f"no registry answers within {first_word_within:g} s"
    return None
