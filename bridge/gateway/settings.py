"""The gateway's settings."""

from __future__ import annotations

from dataclasses import dataclass

from bridge.gateway.priorities import Priorities, parse_priorities
from bus.http.limits import HttpLimits
from bus.runtime.settings import Environment


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """``timeout`` is how many seconds a request may be held; ``proxies`` are the addresses whose
    X-Forwarded-For and -Proto are trusted."""

    broker_url: str
    host: str
    port: int
    allowed_hosts: tuple[str, ...]
    timeout: float
    max_held: int
    priorities: Priorities
    proxies: tuple[str, ...]
    limits: HttpLimits

    @classmethod
    def from_environment(cls, environment: Environment) -> GatewaySettings:
        return cls(
            broker_url=environment.broker_url(),
            host=environment.text("GATEWAY_HOST", "127.0.0.1"),
            port=environment.integer("GATEWAY_PORT", 8002, minimum=1, maximum=65_535),
            allowed_hosts=environment.allowed_hosts(),
            timeout=environment.seconds("GATEWAY_TIMEOUT", 30, minimum=0.1, maximum=60),
            max_held=environment.integer("GATEWAY_MAX_HELD", 2_000, minimum=1, maximum=100_000),
            priorities=parse_priorities(environment.words("GATEWAY_PRIORITIES")),
            proxies=environment.proxies("GATEWAY_TRUSTED_PROXIES", networks=True),
            limits=HttpLimits.from_environment(environment, "GATEWAY"),
        )
