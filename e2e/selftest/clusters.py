"""A cluster that is not there: an API server that stores what it is told, and pods at once."""

import copy

from e2e.cluster.node import CONTROL_PLANE, Node

HOME, RUN = "nodeport-e2e-x", "feedbeef-1-abcdef"
NODES = (
    Node("control-plane", {"IPv4": "10.0.0.1"}, True),
    Node("worker", {"IPv4": "10.0.0.2"}, False),
    Node("worker-2", {"IPv4": "10.0.0.3"}, False),
)
TAINT = {"key": CONTROL_PLANE, "effect": "NoSchedule"}


class FakeApi:
    """A cluster in which every pod of a Deployment is Ready at once."""

    def __init__(self, *, nodes=NODES, taints=((TAINT,), (), ()), cordoned=()):
        self.nodes = nodes
        system = {"metadata": {"name": "kube-system", "uid": "4b1d"}}
        self.objects = {("Namespace", "", "kube-system"): system}
        self.numbers = iter(range(30100, 30200))
        for node, tainted in zip(nodes, taints, strict=False):
            spec = {"taints": list(tainted), "unschedulable": node.name in cordoned}
            said = {"metadata": {"name": node.name}, "spec": spec}
            self.objects["Node", "", node.name] = said

    def create(self, item):
        item, where = copy.deepcopy(item), item["metadata"]
        self.objects[item["kind"], where.get("namespace", ""), where["name"]] = item
        return self._completed(item)

    def _completed(self, item):
        """As stored, with what is picked for a Service; a copy, as whoever reads gets one."""
        if item["kind"] == "Service":
            dual = item["spec"].get("ipFamilyPolicy") == "PreferDualStack"
            item["spec"].setdefault("ipFamilies", ["IPv4", "IPv6"] if dual else ["IPv4"])
            item["spec"].setdefault("externalTrafficPolicy", "Cluster")
            for port in item["spec"]["ports"]:
                port.setdefault("protocol", "TCP")
                port.setdefault("nodePort", next(self.numbers))
        return copy.deepcopy(item)

    submit = create

    def change(self, kind, name, change, namespace=None):
        item = self.objects[kind, namespace or "", name]
        _merge(item, change)
        return self._completed(item)

    def submit_change(self, kind, name, change, namespace=None):
        return {"kind": kind, **self.change(kind, name, change, namespace)}

    def get(self, kind, name, namespace=None):
        return copy.deepcopy(self.objects[kind, namespace or "", name])

    def find(self, kind, name, namespace=None):
        item = self.objects.get((kind, namespace or "", name))
        return {"kind": kind, **item} if item else {"kind": "Status", "code": 404}

    def delete(self, kind, name, namespace=None, **_):
        return self.objects.pop((kind, namespace or "", name), None) is not None

    def find_all(self, kind, namespace=None, **labels):
        if kind == "Pod":
            return self._pods(labels["echo"]) if labels else []
        return [
            item
            for (of, where, _), item in self.objects.items()
            if of == kind
            and namespace in (None, where)
            and labels.items() <= item["metadata"].get("labels", {}).items()
        ]

    def _pods(self, name):
        spec = self.objects["Deployment", HOME, name]["spec"]
        count = spec["replicas"]
        made = spec["template"]["metadata"].get("annotations", {}).get("rolled-out", "1a2b")
        at = [node.name for node in self.nodes if not node.is_control_plane]
        at = at or [node.name for node in self.nodes]
        return [
            {
                "metadata": {"name": f"{name}-{made}-{n}"},
                "spec": {"nodeName": at[n % len(at)]},
                "status": {
                    "podIPs": [{"ip": f"10.244.0.{n + 1}"}],
                    "conditions": [{"type": "Ready", "status": "True"}],
                },
            }
            for n in range(count)
        ]


class FakePorts:
    """Lends one number."""

    def free(self):
        return 30085


def _merge(item, change):
    """As a merge patch does."""
    for key, value in change.items():
        if value is None:
            item.pop(key, None)
        elif isinstance(value, dict) and isinstance(item.get(key), dict):
            _merge(item[key], value)
        else:
            item[key] = copy.deepcopy(value)
