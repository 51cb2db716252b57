"""The end of namespaces: nobody waits for what lingers in them."""

from e2e.cluster import namespace


class Cluster:
    """An API server with pods in one namespace, which is gone when it was asked to end."""

    def __init__(self, pods: dict[str, tuple[str, int]]) -> None:
        self.pods, self.asked = pods, list[tuple[object, ...]]()

    def find_all(self, kind: str, _: str | None = None) -> list[dict]:
        if kind == "Node":
            return [
                {"metadata": {"name": node}, "status": {"conditions": [of_node(node)]}}
                for node in ("here", "away")
            ]
        return [
            {
                "metadata": {"name": pod},
                "spec": {"nodeName": node, "terminationGracePeriodSeconds": grace},
            }
            for pod, (node, grace) in self.pods.items()
        ]

    def delete(self, kind: str, name: str, where: str | None = None, *, grace: int | None = None):
        self.asked.append((kind, name, where, grace))

    def find(self, *_: str) -> dict:
        return {"kind": "Status", "code": 404}


def of_node(node: str) -> dict[str, str]:
    return {"type": "Ready", "status": "Unknown" if node == "away" else "True"}


def test_pods_that_linger_are_hurried_and_lost_ones_given_up():
    """A clause that was cut off may have left pods that want two minutes to end."""
    cluster = Cluster({"quick": ("here", 1), "slow": ("here", 125), "lost": ("away", 1)})

    namespace.remove(cluster, ["home"], wait=True)

    assert cluster.asked == [
        ("Namespace", "home", None, None),
        ("Pod", "slow", "home", 1),
        ("Pod", "lost", "home", 0),
    ]


def test_without_waiting_nothing_is_hurried():
    cluster = Cluster({"slow": ("here", 125)})

    namespace.remove(cluster, ["home"], wait=False)

    assert cluster.asked == [("Namespace", "home", None, None)]
