"""MongoDB's fail points, by which a command fails on a server that is otherwise well.

https://github.com/mongodb/mongo/wiki/The-%22failCommand%22-fail-point
"""

from __future__ import annotations

from typing import Any

from pymongo import MongoClient

# The clients in these tests wait twice that for an answer.
TIMEOUT_MS = 500
FAULTS: dict[str, dict[str, Any]] = {
    "not primary": {"errorCode": 10_107},
    "closed": {"closeConnection": True},
    "no majority": {"writeConcernError": {"code": 64, "errmsg": "waiting for replication"}},
    # Longer than the client waits for the socket, and the command is run after it.
    "blocked": {"blockConnection": True, "blockTimeMS": 4 * TIMEOUT_MS},
}


class FailPoint:
    def __init__(self, url: str) -> None:
        self._client: MongoClient[dict[str, Any]] = MongoClient(url)

    def arm(self, command: str, mode: dict[str, int], fault: str) -> None:
        """Lets ``command`` fail: ``{"times": n}``, or always after ``{"skip": n}``."""
        data = {"failCommands": [command], **FAULTS[fault]}
        self._configure({"mode": mode, "data": data})

    def off(self) -> None:
        self._configure({"mode": "off"})

    def close(self) -> None:
        self.off()
        self._client.close()

    def _configure(self, options: dict[str, Any]) -> None:
        self._client.admin.command({"configureFailPoint": "failCommand", **options})
