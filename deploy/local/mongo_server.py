"""nx-27017, the embedded MongoDB, on a Unix socket that its owner alone can open.

By itself it listens on a TCP port and knows no passwords: every user of the machine could read and
change all messages. MongoDB's clients take a socket for a host (`mongodb://%2Fpath.sock`).

    python -P -m deploy.local.mongo_server FOLDER SOCKET
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from nx_27017.handler import NeoSQLiteHandler
from nx_27017.server import handle_client

from bus.runtime.log_format import configure_logging
from bus.runtime.process import notify_ready
from bus.runtime.settings import Environment


async def serve(folder: Path, address: Path) -> None:
    """Serves the databases in ``folder`` until SIGTERM or SIGINT; reports when it listens."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    handler = NeoSQLiteHandler(data_dir=str(folder))
    # What a killed server has left.
    address.unlink(missing_ok=True)

    async def serve_client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await handle_client(reader, writer, handler)

    os.umask(0o077)
    server = await asyncio.start_unix_server(serve_client, address)
    notify_ready()
    await stop.wait()
    server.close()
    address.unlink()


def main() -> None:
    configure_logging("mongo", Environment(os.environ))
    asyncio.run(serve(*map(Path, sys.argv[1:])))


if __name__ == "__main__":
    main()
