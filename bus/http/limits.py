"""What one client may cost an HTTP server: deadlines, sizes, numbers."""

from __future__ import annotations

from dataclasses import dataclass

from bus.errors import SettingError
from bus.runtime.process import take_files
from bus.runtime.settings import Environment

# Open files for everything but the connections of browsers.
OTHER_FILES = 200


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """Bounds for each process; times are in seconds, sizes in bytes."""

    # From connecting, or from an answer, to the end of the next head.
    head: float = 15.0
    # From the head to the end of the body.
    body: float = 20.0
    # From an answer to the first byte of the next head.
    idle: float = 5.0
    # In which a client must read ``least_read`` bytes of its answer.
    behind: float = 15.0
    # Bytes that a client must read in ``behind`` seconds.
    least_read: int = 16 * 1024
    # From one look at the deadlines to the next.
    sweep: float = 1.0
    # A head that is not complete.
    head_bytes: int = 64 * 1024
    # A body.
    body_bytes: int = 1024 * 1024
    # Requests that a client may send ahead of their answers.
    pipelined: int = 16
    # Connections.
    connections: int = 4_000
    # Connections from one address, or one IPv6 network of 64 bits.
    connections_per_address: int = 400
    # Bytes of requests and of unread answers, of all clients.
    buffered: int = 256 * 1024 * 1024
    # The same, of one address.
    buffered_per_address: int = 32 * 1024 * 1024

    @classmethod
    def from_environment(cls, environment: Environment, process: str) -> HttpLimits:
        """``process`` is the first word of the settings' names: WEB or GATEWAY.

        Takes as many open files as this process may have. Raises SettingError.
        """
        usual = cls()
        name = f"{process}_CONNECTIONS"
        connections = environment.integer(name, usual.connections, minimum=10, maximum=1_000_000)
        files = take_files() - OTHER_FILES
        if files < min(connections, 50):
            raise SettingError(name, f"{connections} needs more open files (ulimit -n)")
        return cls(
            connections=min(connections, files),
            connections_per_address=environment.integer(
                f"{name}_PER_ADDRESS", usual.connections_per_address, minimum=1, maximum=1_000_000
            ),
        )
