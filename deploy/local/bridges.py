"""Several bridges on one port, each a process on a core of its own.

The kernel distributes connections among the processes that listen (SO_REUSEPORT, socket(7)).
"""

from __future__ import annotations

import signal

from bus.runtime.process import notify_ready
from bus.runtime.settings import Environment
from deploy.local.child import Program, chatbus_command
from deploy.local.supervisor import Stage, Stopped, Supervisor
from deploy.processes import load

# For the closing handshakes and the last presence, after the drain.
CLOSE_SECONDS = 20.0


def run_bridges(count: int, environment: Environment) -> int:
    """Runs ``count`` bridges until SIGTERM or SIGINT; a second signal kills them.

    Reports readiness when all are ready. Raises SettingError when a setting is wrong, or when a
    bridge refuses its settings at its start.
    """
    # Checked here once, so that one line says what is wrong instead of ``count`` lines.
    settings = load("bridge.settings", extra="bridge").BridgeSettings.from_environment(environment)
    programs = [_program(number, environment) for number in range(count)]
    names = [program.name for program in programs]
    supervisor = Supervisor(lambda pids: None)
    try:
        supervisor.start(programs)
        supervisor.wait_until_ready(names, float("inf"))
        notify_ready()
        supervisor.run()
    except Stopped:
        pass
    finally:
        supervisor.stop([Stage(names, settings.drain + CLOSE_SECONDS)])
    return 0


def _program(number: int, environment: Environment) -> Program:
    """A bridge that drains when this process dies. With an OPS_PORT it has the one that is
    ``number`` further on."""
    port = environment.integer("OPS_PORT", 0, minimum=0, maximum=65_535)
    own = {"BRIDGE_WORKERS": "1", "OPS_PORT": str(port and port + number)}
    return Program(
        name=f"bridge {number}",
        command=chatbus_command("run", "bridge"),
        environment={**environment.values, **own},
        signal_if_orphaned=signal.SIGTERM,
    )
