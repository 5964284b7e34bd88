"""The bridge's settings."""

from __future__ import annotations

from dataclasses import dataclass, field

from bridge.client.compression import LARGEST_WINDOW, SMALLEST_WINDOW
from bridge.limits import Limits
from bus.errors import SettingError
from bus.runtime.process import take_files
from bus.runtime.settings import Environment
from bus.ticket import KeySet

# Open files for Redis, logs, the health listener and Python itself.
OTHER_FILES = 200
# Open files that must remain for sockets.
LEAST_FILES = 50


@dataclass(frozen=True, slots=True)
class BridgeSettings:
    """``heartbeat``, ``silence`` (see PubSub), ``verify_every`` (see Hub) and ``drain`` (see
    Acceptor) are in seconds; ``compression`` is in bits (see bridge.client.compression)."""

    host: str
    port: int
    redis_url: str
    keys: KeySet
    origins: tuple[str, ...]
    proxies: tuple[str, ...] = ()
    compression: int = 0
    limits: Limits = field(default_factory=Limits)
    heartbeat: float = 5.0
    silence: float = 15.0
    verify_every: float = 5.0
    drain: float = 10.0

    @classmethod
    def from_environment(cls, environment: Environment) -> BridgeSettings:
        origins = environment.origins()
        if not origins:
            raise SettingError(
                "ALLOWED_ORIGINS", "is not set; accepted are origins like https://chat.example.org"
            )
        return cls(
            host=environment.text("BRIDGE_HOST", "127.0.0.1"),
            port=environment.integer("BRIDGE_PORT", 8001, minimum=1, maximum=65_535),
            redis_url=environment.redis_url(),
            keys=KeySet.from_environment(environment),
            origins=origins,
            proxies=environment.proxies("BRIDGE_TRUSTED_PROXIES", networks=False),
            compression=_compression(environment),
            limits=_limits(environment),
            drain=environment.seconds("BRIDGE_DRAIN", 10.0, minimum=0.0, maximum=600.0),
        )


def _compression(environment: Environment) -> int:
    bits = environment.integer("BRIDGE_COMPRESSION", 0, minimum=0, maximum=LARGEST_WINDOW)
    if 0 < bits < SMALLEST_WINDOW:
        accepted = f"accepted are 0 for none, and {SMALLEST_WINDOW} to {LARGEST_WINDOW}"
        raise SettingError("BRIDGE_COMPRESSION", f"{bits} is out of range; {accepted}")
    return bits


def _limits(environment: Environment) -> Limits:
    def number(name: str, default: int, minimum: int = 1) -> int:
        return environment.integer(name, default, minimum=minimum, maximum=2**30)

    usual = Limits()
    files = take_files() - OTHER_FILES
    if files < LEAST_FILES:
        problem = f"cannot be had: {files + OTHER_FILES} open files are allowed (ulimit -n)"
        raise SettingError("BRIDGE_SOCKETS", f"{problem}; accepted are {LEAST_FILES + OTHER_FILES}")
    turned_away = min(usual.turned_away, files // 5)
    return Limits(
        unread=number("BRIDGE_UNREAD", usual.unread, minimum=128 * 1024),
        frames_per_second=number("BRIDGE_FRAME_RATE", usual.frames_per_second),
        sockets=min(number("BRIDGE_SOCKETS", usual.sockets), files - turned_away),
        sockets_per_address=number("BRIDGE_SOCKETS_PER_ADDRESS", usual.sockets_per_address),
        sockets_per_user=number("BRIDGE_SOCKETS_PER_USER", usual.sockets_per_user),
        turned_away=turned_away,
    )
