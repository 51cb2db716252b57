"""Names the fixture modules; builds nothing."""

pytest_plugins = [
    "e2e.fixtures.settings",
    "e2e.fixtures.cluster",
    "e2e.fixtures.results",
    "e2e.fixtures.verdict",
    "e2e.fixtures.progress",
    "e2e.fixtures.actors",
    "e2e.fixtures.objects",
    "e2e.fixtures.endpoints",
    "e2e.fixtures.streams",
    "e2e.fixtures.vantages",
    "e2e.fixtures.nodes",
    "e2e.fixtures.names",
    "e2e.fixtures.strangers",
    "e2e.fixtures.strays",
    "e2e.fixtures.scan",
    "e2e.fixtures.guards",
    "e2e.fixtures.scale",
    "e2e.fixtures.disturbance",
    "e2e.fixtures.selection",
]
