"""Echoes: which pods are hurried when nobody needs them any more."""

from e2e.cluster.echo import Echo

OWNED = {"ownerReferences": [{"kind": "ReplicaSet"}]}


class Pods:
    """A cluster with pods; notes who is deleted, and how fast."""

    def __init__(self, *pods):
        self.pods, self.deleted = pods, {}

    def find_all(self, kind, namespace, **labels):
        return self.pods

    def delete(self, kind, name, namespace, *, grace):
        self.deleted[name] = grace


def pod(name, grace, **of_metadata):
    return {
        "metadata": {"name": name, **of_metadata},
        "spec": {"terminationGracePeriodSeconds": grace},
    }


def test_who_lingers_is_hurried_unless_another_would_follow():
    """A namespace is not gone before its last pod, and one may have two minutes."""
    api = Pods(
        pod("ends-by-itself", 1),
        pod("lingers", 125),
        pod("told-to-end", 1, deletionTimestamp="2026-01-01T00:00:00Z"),
        pod("of-a-deployment", 17, **OWNED),
        pod("of-a-deployment-told-to-end", 17, deletionTimestamp="2026-01-01T00:00:00Z", **OWNED),
    )

    Echo(api, "echo", "here", {}, {}).hurry()

    assert api.deleted == {"lingers": 1, "told-to-end": 1, "of-a-deployment-told-to-end": 1}
