"""Whether a run can begin here: the machine, and the cluster if there is one."""

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from e2e.before import cluster, machine
from e2e.before.rows import FAILS, Row, failure, ok, warns
from e2e.cluster.api import Api
from e2e.cluster.consent import admit
from e2e.errors import RefusedError, StopError
from e2e.provider import existing, kind
from e2e.provider.engine import Engine, find_engine
from e2e.provider.kubeconfig import default_kubeconfig
from e2e.provider.lane import Lane

# What is done about a cluster of ours that is not well.
MENDED = "nothing: a run starts it again, or makes it anew"


def examine(asked: Mapping[str, Any]) -> list[Row]:
    """Look at what a run with these options needs; one row each.

    Raises:
        UsageError: an option means nothing.
    """
    engine, out = find_engine(), Path(asked["out"]).absolute()
    lane = Lane(asked["k8s"], asked["proxy"], asked["family"], asked["shape"])
    with tempfile.TemporaryDirectory() as secrets:
        if asked["provider"] == "existing":
            return list(_existing(asked, engine, Path(secrets)))
        return [
            *machine.rows(lane, engine, out, asked["outside"]),
            *_kept(asked, lane, Path(secrets)),
        ]


def _kept(asked: Mapping[str, Any], lane: Lane, secrets: Path) -> Iterator[Row]:
    name = asked["cluster_name"] or lane.cluster_name
    record = kind.Record.read(name)
    if record is None:
        yield ok("cluster", f"{name} is not there; a run makes it")
        return
    try:
        record.demand_lane(name, str(lane))
    except StopError as error:
        yield failure("cluster", error)
        return
    if record.changed:
        does = "a run makes it anew, once nobody uses it"
        yield warns("cluster", f"{name} is no longer as it was made ({record.changed})", does)
        return
    file = record.kubeconfig()
    if not (record.complete and file):
        yield warns("cluster", f"{name} did not come up", MENDED)
        return
    try:
        api = Api(file, secrets=secrets)
        yield ok("cluster", f"{name} is there and answers")
        admit(api)
        for row in cluster.rows(api, asked["outside"], has_callers=True, is_ours=True):
            unready = row.what == "nodes" and row.ends == FAILS
            yield warns(row.what, row.said, MENDED) if unready else row
    except RefusedError as error:
        yield failure("safety", error)
    except StopError as error:
        yield warns("cluster", error.what.partition("\n")[0], MENDED)


def _safety(api: Api, consent: existing.Consent) -> Row:
    try:
        cluster = admit(api, consent, remember=False)
    except StopError as error:
        return failure("safety", error)
    return ok("safety", f"{consent.context} may be written to; it leads to the cluster {cluster}")


def _existing(asked: Mapping[str, Any], engine: Engine | None, secrets: Path) -> Iterator[Row]:
    file = Path(asked["kubeconfig"] or default_kubeconfig())
    context = asked["kube_context"]
    try:
        consent = existing.check_allowed(file, context, engine)
    except StopError as error:
        consent = None
        yield failure("safety", error)
        # The current context is never used, and what has no address cannot be asked.
        if not context or error.exit_code != 3:
            return
    try:
        api = Api(file, context, secrets=secrets)
        yield ok("cluster", f"{api.server} answers")
        if consent:
            yield _safety(api, consent)
        beside = engine is not None and existing.kind_cluster_at(api.server, engine) is not None
        yield from cluster.rows(api, asked["outside"], has_callers=beside, is_ours=False)
    except StopError as error:
        yield failure("cluster", error)
