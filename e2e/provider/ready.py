"""What has to be there before a kind cluster of a lane can be made."""

from dataclasses import replace
from pathlib import Path

from e2e.provider import kind, node_image
from e2e.provider.engine import Engine
from e2e.provider.kind_binary import ensure_kind
from e2e.provider.lane import Lane
from e2e.provider.steps import Steps


def ready(
    lane: Lane, engine: Engine, steps: Steps, image: str | None, program: Path | None = None
) -> tuple[Lane, kind.Tools]:
    """Find or make the program kind and the node image of a lane.

    Args:
        lane: what is asked for.
        engine: runs the nodes.
        steps: tell what is done.
        image: take this node image.
        program: take this kind.

    Returns:
        the lane with the version that the image has, and what makes a cluster of it.

    Raises:
        StopError: there is none, and none can be made.
    """
    program = program or ensure_kind(steps)
    found = node_image.resolve(lane.version, engine, steps, image)
    return replace(lane, version=found.version), kind.Tools(engine, program, found.reference)
