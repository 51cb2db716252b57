"""What is saved of a failure: the objects of the run, and no others."""

import yaml

from e2e.cluster import evidence
from e2e.cluster.api import Api
from e2e.cluster.namespace import RUN_LABEL
from e2e.selftest.storing_server import CONTEXT, refused, storing_server

RUN = "feedbeef-1-abcdef"
MINE = ("nodeport-e2e-r", "nodeport-e2e-r-host")


def save(server, folder):
    api = Api(server.kubeconfig, CONTEXT)
    evidence.save(folder, "a table", api=api, run=RUN, nodes=(), engine=None)


def test_only_namespaces_of_the_run_are_listed(tmp_path):
    """Of a large cluster the other pods alone are hundreds of megabytes, for each failure."""
    with storing_server(tmp_path / "api") as server:
        for name in (*MINE, "shop"):
            labels = {RUN_LABEL: RUN} if name in MINE else {}
            server.put("/api/v1", "namespaces", {"metadata": {"name": name, "labels": labels}})
            server.put("/api/v1", "pods", {"metadata": {"name": "a", "namespace": name}})
        save(server, tmp_path / "out")

    saved = yaml.safe_load_all((tmp_path / "out" / "pods.yaml").read_text())
    assert sorted(each["metadata"]["namespace"] for each in saved) == sorted(MINE)
    kinds = ("pods", "services", "endpointslices", "events")
    lists = [path for _, path in server.requests if path.endswith(kinds)]
    wanted = [f"namespaces/{name}/{kind}" for name in (*MINE, "kube-system") for kind in kinds[:1]]
    wanted += [f"namespaces/{name}/{kind}" for name in MINE for kind in kinds[1:]]
    assert sorted(path.partition("v1/")[2] for path in lists) == sorted(wanted)


def test_what_cannot_be_listed_is_said_in_its_place(tmp_path):
    no = refused(403, "Forbidden", "events is forbidden")
    with storing_server(tmp_path / "api") as server:
        for name in MINE:
            labels = {RUN_LABEL: RUN}
            server.put("/api/v1", "namespaces", {"metadata": {"name": name, "labels": labels}})
        server.before = lambda _, path: no if path.endswith("/events") else None
        save(server, tmp_path)

    assert (tmp_path / "events.yaml").read_text().startswith("could not be read: ")
    assert (tmp_path / "services.yaml").read_text() == ""
