"""Rules of kube-proxy that are changed on their way to the kernel, also by all of its own syncs."""

import secrets
import shlex
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from e2e import timing
from e2e.cluster.kube_proxy import KUBECTL, METRICS
from e2e.cluster.node import Node
from e2e.cluster.undo import Undo
from e2e.wait import wait_until

# A change of it lets kube-proxy write all rules anew (OnTopologyChange), without a restart.
LABEL = "topology.kubernetes.io/zone"
SYNCS = (
    f"curl -s -m 2 http://localhost:{METRICS}/metrics"
    " | awk '/^kubeproxy_sync_full_proxy_rules_duration_seconds_count/ { n += $2 } END { print n }'"
)
# kube-proxy's own programs, in the file system of its container as its node sees it.
PROGRAMS = "cd /proc/$(pidof kube-proxy)/root/usr/sbin"
# Its programs know by their names what they are, and links beside them lead to them.
WRAP = """
mkdir real
for multi in xtables-*-multi; do ln -s ../$multi real/$multi; done
cat >real/script
cat >real/wrapper <<'end'
#!/bin/sh
case "$0 $*" in
*restore*|*"-f -"*) ;;
*) exec "/usr/sbin/real/${0##*/}" "$@" ;;
esac
given=$(mktemp) changed=$(mktemp)
cat >"$given"
sed -E -f /usr/sbin/real/script "$given" >"$changed"
cmp -s "$given" "$changed" || echo changed >>/usr/sbin/real/changes
"/usr/sbin/real/${0##*/}" "$@" <"$changed"
ended=$?
rm -f "$given" "$changed"
exit $ended
end
chmod a+x real/wrapper
for program in iptables-restore ip6tables-restore nft; do
  cp -P $program real/$program
  cp real/wrapper real/new
  mv -f real/new $program
done
"""
UNWRAP = f"""
{PROGRAMS} 2>/dev/null || exit 0
for program in iptables-restore ip6tables-restore nft; do
  if test -e real/$program || test -L real/$program; then mv -f real/$program $program; fi
done
rm -rf real
"""
CHANGES = f"{PROGRAMS}; cat real/changes 2>/dev/null | wc -l"


@contextmanager
def rewriting(script: str, node: Node, *, told_on: Node, undo: Undo) -> Iterator[Callable[[], int]]:
    """Let a script of sed change all that the kube-proxy on a node writes while the context lasts.

    Args:
        script: with extended expressions, for each line.
        node: where it runs.
        told_on: a control plane.
        undo: undoes it.

    Yields:
        what counts how often something was changed by it.
    """
    zone = f"nodeport-e2e-{secrets.token_hex(3)}"
    wrap = f"{PROGRAMS}\n{WRAP}"
    away = f"{KUBECTL} label node {node.name} {LABEL}-"
    with ExitStack() as restored:
        restored.enter_context(undo.afterwards("exec", told_on.name, "sh", "-c", away))
        restored.enter_context(undo.afterwards("exec", node.name, "sh", "-c", UNWRAP))
        argv = ("exec", "--interactive", node.name, "sh", "-ec", wrap)
        undo.engine.run(*argv, input=f"{script.strip()}\n")
        with _synced(node, undo):
            words = shlex.split(f"{KUBECTL} label node {node.name} {LABEL}={zone}")
            undo.engine.run("exec", told_on.name, *words)
        yield lambda: int(undo.engine.run("exec", node.name, "sh", "-ec", CHANGES))
        with _synced(node, undo):
            restored.close()


@contextmanager
def _synced(node: Node, undo: Undo) -> Iterator[None]:
    """Wait at the end of the context until kube-proxy on a node has written all rules again."""

    def syncs() -> int:
        return int(undo.engine.run("exec", node.name, "sh", "-ec", SYNCS) or 0)

    before = syncs()
    yield
    wait_until(
        lambda: syncs() > before,
        what=f"a full sync of kube-proxy on {node}",
        within=timing.RULES_BACK_WITHIN,
    )
