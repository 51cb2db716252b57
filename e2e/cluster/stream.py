"""A UDP stream from a host beside the nodes to a pod that asked for it: no Service is involved."""

from dataclasses import dataclass

from e2e import timing
from e2e.cluster.caller import Caller, CallerVantage
from e2e.cluster.vantage import PodVantage
from e2e.wait import settle, wait_until

# Seconds between two datagrams, and how many the host sends: longer than any clause looks.
EVERY, COUNT = 0.05, 2400
# By itself socat gives up a sender that a busy machine holds up for half a second.
PATIENCE = 60


@dataclass(frozen=True)
class Stream:
    """What one pod gets from one port of a host.

    Attributes:
        pod: who asked once, and only listens from then on.
        file: in the pod, with a line for each datagram.
    """

    pod: PodVantage
    file: str

    def goes_on(self) -> bool:
        """Whether more comes."""
        before = self._received()
        return settle(
            self._received,
            lambda now: now > before,
            within=timing.STREAM_GOES_ON_WITHIN,
            times=1,
        ).settled

    def _received(self) -> int:
        return int(self.pod.run(f"wc -l <{self.file}"))


def start(caller: Caller, host: CallerVantage, port: int, pod: PodVantage) -> Stream:
    """Let a host send from a port to whoever asks it there, and let a pod ask."""
    number = "6" if ":" in host.source else "4"
    address = f"[{host.source}]" if number == "6" else host.source
    sends = f"for n in $(seq {COUNT}); do echo $n; sleep {EVERY}; done"
    listens = f"UDP{number}-RECVFROM:{port},bind={address},fork"
    caller.execute("sh", "-c", f"socat -t {PATIENCE} {listens} SYSTEM:'{sends}' >/dev/null 2>&1 &")
    # A datagram that comes before is lost, and the pod sends but one.
    wait_until(
        lambda: f":{port} " in caller.execute("ss", "-Hnul"),
        what=f"a stream at {address}:{port}",
        within=timing.COMMAND,
    )
    file = f"/tmp/stream-{port}"  # noqa: S108  # of the pod
    # By its path, as busybox would take its own nc for the name; it ends when nothing more comes.
    pod.run(f"(echo begin | $(which nc) -u -w 10 {host.source} {port} >{file} 2>&1 &)")
    return Stream(pod, file)
