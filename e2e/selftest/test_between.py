"""Somebody between callers and an API server: what is meant is altered, and nothing else."""

import json
from contextlib import contextmanager

import pytest

from e2e.cluster.api import Api
from e2e.faults.between import between
from e2e.report.faults import Altered
from e2e.selftest.api_server import api_server

SERVICES = "/api/v1/namespaces/here/services"
REFUSED = {
    "kind": "Status", "code": 422, "reason": "Invalid", "message": "it is taken",
    "details": {"causes": [{"field": "spec.ports"}]},
}  # fmt: skip
SERVICE = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a", "namespace": "here"}}
LISTED = {"kind": "ServiceList", "metadata": {"resourceVersion": "1"}, "items": [SERVICE]}


@contextmanager
def altering(tmp_path, answer, **how):
    """A client that speaks to a server by way of somebody who alters; and what counts that."""
    with api_server(tmp_path, {SERVICES: answer}) as server:
        (tmp_path / "keys").mkdir()
        with between(Altered(**how), server.kubeconfig, None, tmp_path / "keys") as (file, count):
            yield Api(file, secrets=tmp_path), server, count


def test_a_refusal_is_told_with_another_code(tmp_path):
    """In its status line and in its body, and it is counted."""
    how = {"asked": "^POST .*/services", "code": 422, "becomes": 400, "find": '"code": 422'}
    with altering(tmp_path, REFUSED, **how, put='"code": 400') as (api, _, count):
        answer = api.submit(SERVICE)

        assert (answer["code"], answer["reason"]) == (400, "Invalid")
        assert count() > 0


@pytest.mark.parametrize(
    ("answer", "how"),
    [
        (REFUSED, {"asked": "^PUT .*/services"}),
        (REFUSED, {"asked": "^POST .*/pods"}),
        (REFUSED, {"asked": "^POST .*/services", "code": 500}),
    ],
)
def test_what_is_not_meant_is_left_alone(tmp_path, answer, how):
    """Another method, another path, another code; and it is not counted."""
    with altering(tmp_path, answer, **how, find="it is taken", put="no") as (api, _, count):
        assert api.submit(SERVICE)["message"] == "it is taken"
        assert count() == 0


def test_a_part_of_a_query_is_left_out(tmp_path):
    """What is sent on has the rest of it; the fake server keeps paths alone, so it is read here."""
    asked = []
    how = {"asked": "^POST .*dryRun=All", "sent": "dryRun=All"}
    with altering(tmp_path, SERVICE, **how) as (api, server, count):
        server.answers[SERVICES] = lambda body: asked.append(body) or SERVICE
        api.submit(SERVICE, dry_run=True)
        api.submit(SERVICE)

        assert len(asked) == 2
        assert count() == 1


def test_bodies_are_passed_on_as_they_are(tmp_path):
    """What is asked, and what is answered to others."""
    with altering(tmp_path, SERVICE, asked="^GET", find='"a"', put='"b"') as (api, server, _):
        server.answers[SERVICES] = lambda body: body

        assert api.submit(SERVICE) == SERVICE


def test_lines_of_a_watch_can_be_kept_back(tmp_path):
    """The others come whole, and the watch ends as it did."""
    events = [
        {"type": kind, "object": {"metadata": {"name": kind}}}
        for kind in ("ADDED", "MODIFIED", "DELETED")
    ]
    how = {"asked": "^GET .*watch=true", "find": '^{"type": "MODIFIED".*'}
    with altering(tmp_path, LISTED, **how) as (api, server, count):
        server.answers[SERVICES] = Lines(events)

        told = api.events_of("Service", "here", seconds=1)

        assert [event["type"] for event in told] == ["ADDED", "DELETED"]
        assert count() == 1


class Lines(dict):
    """An answer that the fake server writes as lines."""

    def __init__(self, events):
        super().__init__(kind="Lines")
        self.events = events


@pytest.fixture(autouse=True)
def as_lines(monkeypatch):
    """Let the fake server write them so."""
    whole = json.dumps

    def dumps(what, *args, **how):
        if isinstance(what, Lines):
            return "".join(whole(event) + "\n" for event in what.events)
        return whole(what, *args, **how)

    monkeypatch.setattr("e2e.selftest.api_server.json.dumps", dumps)


def test_a_server_that_is_gone_is_no_answer(tmp_path):
    """Callers see the connection end, and not an answer of somebody else."""
    with (
        api_server(tmp_path) as server,
        between(Altered(asked=".", find="x"), server.kubeconfig, None, tmp_path) as (file, _),
    ):
        api = Api(file, secrets=tmp_path)
        server.answers["/readyz"] = lambda _: 1 / 0

        assert api.is_ready() is False
