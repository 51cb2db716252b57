"""The health-check node port of a Service: what a load balancer asks each node."""

from dataclasses import dataclass

import requests

from e2e import timing
from e2e.probe.outcome import ANSWERED, FOREIGN, Outcome, outcome_of

WEIGHT = "X-Load-Balancing-Endpoint-Weight"


@dataclass(frozen=True)
class Health:
    """What one node said.

    Attributes:
        outcome: how the attempt ended; FOREIGN is what no service proxy says of this Service.
        status: of HTTP.
        pods: how many of its own ready pods it says that it has.
        weight: the same in the header that load balancers read, if it is there.
    """

    outcome: Outcome
    status: int = 0
    pods: int = 0
    weight: str | None = None

    def __str__(self) -> str:
        if self.outcome != ANSWERED:
            return f"{self.outcome} (status {self.status})" if self.status else f"{self.outcome}"
        return f"status {self.status}, {self.pods} pods, weight {self.weight}"


@dataclass(frozen=True)
class HealthPort:
    """A node's address and the health-check node port of a Service.

    Attributes:
        name: what messages call the address.
        address: IPv4 or IPv6, without brackets.
        port: the health-check node port.
        service: its namespace and name, of which the node has to speak.
    """

    name: str
    address: str
    port: int
    service: tuple[str, str]

    def __str__(self) -> str:
        return f"health of {self.name}:{self.port}"

    def ask(self) -> Health:
        """Ask once, over a connection of its own."""
        host = f"[{self.address}]" if ":" in self.address else self.address
        with requests.Session() as session:
            session.trust_env = False
            try:
                response = session.get(
                    f"http://{host}:{self.port}/",
                    headers={"Connection": "close"},
                    timeout=timing.ATTEMPT,
                    allow_redirects=False,
                )
            except requests.RequestException as error:
                return Health(outcome_of(error))
        try:
            said = response.json()
            of = (said["service"]["namespace"], said["service"]["name"])
            pods = int(said["localEndpoints"])
        except (KeyError, TypeError, ValueError):
            return Health(FOREIGN, response.status_code)
        outcome = ANSWERED if of == self.service else FOREIGN
        return Health(outcome, response.status_code, pods, response.headers.get(WEIGHT))
