"""``chatbus up``: every process on this machine, with embedded servers for what is not set."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Mapping
from pathlib import Path

from bus.runtime.settings import Environment
from bus.topology import EVENT_CONSUMERS
from deploy.local.child import Program, chatbus_command
from deploy.local.data_folder import DataFolder
from deploy.local.embedded import embed
from deploy.local.ports import authority, ops_targets, ports_from, show
from deploy.local.preflight import URLS, check_ports, check_reachable, check_settings
from deploy.local.supervisor import Stage, Stopped, Supervisor
from deploy.processes import PROCESSES

START_SECONDS = 90.0
# They publish, so they wait for the queues, too.
DATABASE_PROCESSES = ("web", "request_worker", "outbox_relay")
# The commands that read them by --data compare, show or change what is on the broker.
BROKER_SETTINGS = ("BROKER_API_URL", "ARCHIVE", "TLS_CA_FILE")
# Publishers stop before consumers, and the servers, which all of them need, last. Each stage gets
# longer than it takes to finish its work: the gateway holds a request for 30 s, a worker runs one
# for as long, gunicorn gives its workers 20 s.
STOP_STAGES = (
    Stage(("gateway",), 35.0),
    Stage(("web", "request_worker", "bridge", "migrate", "topology"), 35.0),
    Stage(("outbox_relay",), 10.0),
    Stage(tuple(EVENT_CONSUMERS), 10.0),
    Stage(("redis", "mongo"), 10.0),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--port",
        type=int,
        default=8000,
        help="of the web; the bridge and the gateway take the next two, and the ports after them "
        "are for the health and metrics of each process (default: %(default)s)",
    )
    parser.add_argument("--host", default="127.0.0.1", help="to listen on (default: %(default)s)")
    parser.add_argument(
        "--data",
        type=Path,
        default=Path("chatbus-data"),
        metavar="DIR",
        help="folder for all data and secrets, made if missing (default: ./%(default)s)",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, environment: Environment) -> int:
    """Runs until SIGINT or SIGTERM, then stops everything it started.

    What the processes write is for their owner alone, also in a folder that others may enter.
    Raises SettingError before anything was started, StartFailed when something did not get
    ready in time.
    """
    started = time.monotonic()
    os.umask(0o077)
    check_settings(environment)
    ports, ops_ports = ports_from(arguments.port)
    ops_host = environment.text("OPS_HOST", "127.0.0.1")
    with DataFolder(arguments.data) as folder:
        check_ports(arguments.host, ports)
        check_ports(ops_host, ops_ports)
        check_reachable(environment.values)
        servers, settings = _settings(arguments.host, ports, environment.values, folder)
        settings |= {"OPS_HOST": ops_host, "OPS_TARGETS": ops_targets(ops_host, ops_ports)}
        folder.write_settings(settings)
        supervisor = Supervisor(folder.write_processes)
        try:
            _start(supervisor, servers, settings, ops_ports)
            show(arguments.host, ports, settings, folder.path, time.monotonic() - started)
            supervisor.run()
        except Stopped:
            pass
        finally:
            supervisor.stop(STOP_STAGES)
    return 0


def _start(
    supervisor: Supervisor,
    servers: list[Program],
    settings: Mapping[str, str],
    ops_ports: Mapping[str, int],
) -> None:
    """Starts each process as soon as what it needs is there."""
    environment = {**os.environ, **settings}
    migrate = _program("migrate", ("migrate", "--quiet"), environment, once=True)
    topology = _program("topology", ("topology", "apply", "--quiet"), environment, once=True)
    processes = {
        name: _program(name, ("run", name), environment | {"OPS_PORT": str(port)})
        for name, port in ops_ports.items()
    }
    deadline = time.monotonic() + START_SECONDS
    supervisor.start([*servers, migrate])
    supervisor.wait_until_ready([server.name for server in servers], START_SECONDS)
    others = [program for name, program in processes.items() if name not in DATABASE_PROCESSES]
    supervisor.start([topology, *others])
    supervisor.wait_until_ready(["migrate", "topology"], deadline - time.monotonic())
    supervisor.start(processes[name] for name in DATABASE_PROCESSES)
    supervisor.wait_until_ready(tuple(PROCESSES), deadline - time.monotonic())


def _program(
    name: str, words: tuple[str, ...], environment: Mapping[str, str], *, once: bool = False
) -> Program:
    return Program(name=name, command=chatbus_command(*words), environment=environment, once=once)


def _settings(
    host: str, ports: Mapping[str, int], given: Mapping[str, str], folder: DataFolder
) -> tuple[list[Program], dict[str, str]]:
    """The servers to start, and the settings of every process: given ones before our own."""
    secrets = folder.secrets()
    servers, urls = embed(given, folder, secrets.pop("REDIS_PASSWORD"))
    names = dict.fromkeys(("127.0.0.1", "localhost", host))
    sites = [(name, ports[listener]) for name in names for listener in ("web", "gateway")]
    ours = {
        **secrets,
        **urls,
        "ALLOWED_HOSTS": ",".join(names),
        "ALLOWED_ORIGINS": ",".join(f"http://{authority(name, port)}" for name, port in sites),
        "BRIDGE_URL": f"ws://{{host}}:{ports['bridge']}/",
    }
    if not given.get("EMAIL_URL"):
        ours["MAIL_FOLDER"] = str(folder.path / "mail")
    settings = {name: given.get(name) or value for name, value in ours.items()}
    settings |= {name: given[name] for name in (*URLS, *BROKER_SETTINGS) if given.get(name)}
    for listener, port in ports.items():
        settings[f"{listener.upper()}_HOST"] = host
        settings[f"{listener.upper()}_PORT"] = str(port)
    return servers, settings
