"""What commands have in common in their options."""

import os
import re
from collections.abc import Callable
from typing import Any

import click

from e2e.cluster.beside import AUTO, OUTSIDES
from e2e.cluster.cap import ALLOWED
from e2e.errors import UsageError
from e2e.provider.in_cluster import IN_CLUSTER
from e2e.provider.lane import FAMILIES, PROVIDERS, PROXIES
from e2e.provider.node_image import DEFAULT
from e2e.report.clauses import names_beginning
from e2e.report.shard import Shard

# More processes than cores is right: most of a clause is waiting.
PROCESSES = 8
# What kind takes, as nodes are called after it.
NAME = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?")


def option(name: str, variable: str, **how: Any) -> Callable[..., Any]:
    """An option that is an environment variable too, and whose help says so."""
    return click.option(name, envvar=f"E2E_{variable}", show_envvar=True, show_default=True, **how)


Command = Callable[..., Any]


def together(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Options that several commands have in common, the last one first in their help."""

    def add(function: Command) -> Command:
        for each in options:
            function = each(function)
        return function

    return add


def complete_clause(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    """What a shell may complete the beginning of a clause's name to."""
    return names_beginning(incomplete)


def _named(_: click.Context, __: click.Parameter, name: str | None) -> str | None:
    """A name that kind and containers take."""
    if name and not NAME.fullmatch(name):
        raise UsageError(
            f"no cluster can be called {name!r}", "use small letters, digits, - and . between them"
        )
    return name


of_lane = together(
    option(
        "--cluster-name",
        "CLUSTER_NAME",
        default=None,
        callback=_named,
        help="Name of the kind cluster.",
    ),
    option("--shape", "SHAPE", default="two-workers", help="In manifests/kind, or a file."),
    option("--family", "FAMILY", default=FAMILIES[0], help="ipv4, ipv6 or dual."),
    option("--proxy", "PROXY", default=PROXIES[0], help="kube-proxy's mode."),
)
"""The options that say which lane is meant, but for its version."""

of_version = option("--k8s", "K8S", default=DEFAULT, help="Version of Kubernetes.")

of_making = together(
    option("--keep", "KEEP", is_flag=True, help="Keep the cluster; the next run takes it."),
    option("--node-image", "NODE_IMAGE", default=None, help="Take this node image."),
)
"""The options that say how a cluster is made, and whether it stays."""


of_cluster = together(
    option(
        *("--outside", "OUTSIDE"),
        default=AUTO,
        type=click.Choice(OUTSIDES),
        help="Callers outside are this process, or a container where it does not reach nodes.",
    ),
    option("--kubeconfig", "KUBECONFIG", default=None, help="The existing cluster's file."),
    option("--kube-context", "KUBE_CONTEXT", default=None, help="Its context in that file."),
    option(
        *("--provider", "PROVIDER"),
        default="kind",
        type=click.Choice((*PROVIDERS, IN_CLUSTER)),
        help="Make a cluster, or take one, be it that of which this is a pod.",
    ),
    of_lane,
    of_version,
)
"""The options that say which cluster is meant: one that exists, or a lane."""


def _shard(_: click.Context, __: click.Parameter, said: str | None) -> Shard | None:
    return Shard.parse(said) if said else None


of_shard = option(
    *("--shard", "SHARD"),
    default=None,
    metavar="N/OF",
    callback=_shard,
    help="A part, such as 1/4.",
)
"""The option that says which part of a whole is meant; gives a Shard."""


def _to_environment(_: click.Context, parameter: click.Parameter, value: int | None) -> None:
    """Let every process of the run have it."""
    if value is not None:
        assert isinstance(parameter.envvar, str)
        os.environ[parameter.envvar] = str(value)


of_limits = together(
    *(
        option(
            f"--max-{what}",
            f"MAX_{what.upper().replace('-', '_')}",
            type=click.IntRange(min=0),
            default=usual,
            expose_value=False,
            callback=_to_environment,
            help=f"So many {what.replace('-', ' ')} may be in use at once.",
        )
        for what, usual in ALLOWED.items()
    ),
    option(
        *("--wait", "WAIT"),
        type=click.FloatRange(min=0),
        default=0.0,
        help="Seconds to wait for a run of another machine to end.",
    ),
)
"""The options that say how much of a cluster is taken, and when."""


of_choice = together(
    option(
        *("--only", "ONLY"),
        default=None,
        shell_complete=complete_clause,
        help="Clauses of these ids, topics, catalogue ids.",
    ),
    option("--families", "FAMILIES", default=None, help="core, extended, disruptive, slow, or "
           "all; of a cluster that exists that is all but disruptive."),
)  # fmt: skip
"""The options that say which clauses are meant."""
