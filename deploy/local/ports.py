"""Where a running ``chatbus up`` is found: its ports, and the table that shows them."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path

from bus.errors import SettingError
from bus.runtime.settings import Environment
from deploy.processes import PROCESSES

HIGHEST_PORT = 65_535
LISTENERS = ("web", "bridge", "gateway")


def ports_from(first: int) -> tuple[dict[str, int], dict[str, int]]:
    """The port of each process that serves browsers, and after those the port on which each
    process reports its health. Raises SettingError.
    """
    highest = HIGHEST_PORT - len(LISTENERS) - len(PROCESSES) + 1
    if not 1 <= first <= highest:
        raise SettingError("--port", f"{first} is out of range; accepted is 1 to {highest}")
    ports = {listener: first + step for step, listener in enumerate(LISTENERS)}
    ops_ports = {name: first + len(LISTENERS) + step for step, name in enumerate(PROCESSES)}
    return ports, ops_ports


def ops_targets(host: str, ports: Mapping[str, int]) -> str:
    """OPS_TARGETS: where each process reports its health, as ``name=host:port,…``."""
    return ",".join(f"{name}={authority(host, port)}" for name, port in ports.items())


def authority(host: str, port: int) -> str:
    """Host and port as a URL has them (RFC 3986, section 3.2)."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def show(
    host: str, ports: Mapping[str, int], settings: Mapping[str, str], data: Path, seconds: float
) -> None:
    """Prints where everything is: a table on a terminal, else plain lines."""
    rows = {
        "Web": f"http://{authority(host, ports['web'])}/",
        "Web, requests held on the queue": f"http://{authority(host, ports['gateway'])}/",
        "WebSockets": f"ws://{authority(host, ports['bridge'])}/",
        "Broker": _without_password(settings["BROKER_URL"]),
        "Redis": _without_password(settings["REDIS_URL"]),
        "MongoDB": _without_password(settings["MONGO_URL"]),
        "Database": _without_password(settings["DATABASE_URL"]),
        "Mail": _mail(settings),
        "Health and metrics": settings["OPS_TARGETS"].replace(",", " "),
        "Data folder": str(data),
    }
    if sys.stdout.isatty():
        _print_table(rows)
    else:
        print("\n".join(f"{name}: {value}" for name, value in rows.items()))
    print(f"chatbus is ready after {seconds:.1f} s. Ctrl-C stops it.", flush=True)


def _mail(settings: Mapping[str, str]) -> str:
    folder = settings.get("MAIL_FOLDER")
    if not folder:
        return "by EMAIL_URL"
    if Environment(settings).is_for_this_machine():
        return f"in the folder {folder}; addresses count as confirmed"
    return f"in the folder {folder}; invitations by address wait for a mail server: set EMAIL_URL"


def _print_table(rows: Mapping[str, str]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(show_header=False)
    for row in rows.items():
        table.add_row(*row)
    Console().print(table)


def _without_password(urls: str) -> str:
    """Nor with options, which only fill the table."""
    return re.sub(r"//[^/@]*@", "//", re.sub(r"\?[^;]*", "", urls))
