"""Asks one clause by pytest, in a process that has been given all modules when it begins."""

import os
import signal
import sys

# What clauses need of others, read once. The fixtures are pytest's own to read, as it rewrites
# their assertions.
import kubernetes.dynamic  # noqa: F401
import pytest
import requests  # noqa: F401
import scipy.stats  # noqa: F401

import e2e.check
import e2e.cluster.api
import e2e.cluster.caller
import e2e.cluster.kube_proxy
import e2e.cluster.scene
import e2e.provider.kind
import e2e.provider.node_image
import e2e.report.result  # noqa: F401


def ask(argv: list[str], log: str) -> None:
    """Run pytest to its end, and end with its exit code.

    Only who started this process ends it, as pytest has to clean up, and once.
    """
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with open(log, "wb", buffering=0) as output:  # noqa: PTH123  # the descriptor is what matters
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
        code = pytest.main(argv)
    sys.stdout.flush()
    sys.exit(int(code))
