"""A real RabbitMQ node with everything of its own: epmd, cookie, node name, data, ports.

The environment variables are described at https://www.rabbitmq.com/docs/configure.
"""

from __future__ import annotations

import itertools
import os
import re
import socket
import subprocess
from collections.abc import Mapping

import requests

from deploy.local.child import Child, Program
from tests.support.ports import HOST, free_port, is_open
from tests.support.servers import Server, executable
from tests.support.wait import patience, wait_until

# The wrapper in /usr/sbin wants root or the user rabbitmq; the script that it calls does not.
SCRIPTS = "/usr/lib/rabbitmq/bin"
USER = "guest"
_SUBSCRIPTIONS = """
lists:flatten([
    io_lib:format("~p=~p ", [proplists:get_value(Key, Consumer) || Key <- [channel_pid, active]])
    || Consumer <- rabbit_amqqueue:consumers_all(<<"{vhost}">>),
    rabbit_misc:r(<<"{vhost}">>, queue, <<"{queue}">>) == proplists:get_value(queue_name, Consumer)
])
"""
# To configure, write and read all that chatbus uses, by docs/operating.md.
NEEDED = r"^(chat|web)\.|^amq\.default$"
PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"


class RabbitMQ(Server):
    """One node with the management API; the user is guest, and each test module gets a virtual
    host."""

    _vhosts = itertools.count(1)

    def __init__(self) -> None:
        super().__init__()
        self._api_port = free_port()
        self._epmd_port = free_port()
        self._epmd: Child | None = None
        self._distribution_port = free_port()
        self._tools_port = free_port()
        self._vhosts_of_module: list[str] = []

    @property
    def url(self) -> str:
        return self.vhost("%2F")

    @property
    def api_url(self) -> str:
        """Where the management API listens."""
        return f"http://{HOST}:{self._api_port}"

    def vhost(self, name: str) -> str:
        return f"amqp://{USER}:{USER}@{HOST}:{self.port}/{name}"

    def fresh_vhost(self, permitted: str = ".*", *, outlives_module: bool = False) -> str:
        """The URL of a virtual host without queues, in which the user may do what ``permitted``,
        a regular expression, matches. It is for one test module, unless it ``outlives_module``."""
        name = f"test{next(self._vhosts)}"
        self.call("PUT", f"vhosts/{name}")
        rights = dict.fromkeys(("configure", "write", "read"), permitted)
        self.call("PUT", f"permissions/{name}/{USER}", rights)
        if not outlives_module:
            self._vhosts_of_module.append(name)
        return self.vhost(name)

    def end_module(self) -> None:
        """Deletes the virtual hosts of a test module: each idle queue costs processor time, which
        the statistics of every half second multiply."""
        while self._vhosts_of_module:
            self.call("DELETE", f"vhosts/{self._vhosts_of_module.pop()}")

    def call(self, method: str, path: str, content: object = None) -> None:
        """By the API: each call of rabbitmqctl starts an Erlang machine, which takes a second."""
        url = f"{self.api_url}/api/{path}"
        answer = requests.request(
            method, url, json=content, auth=(USER, USER), timeout=patience(60)
        )
        answer.raise_for_status()

    def ctl(self, *arguments: str) -> str:
        """Runs rabbitmqctl and returns what it prints."""
        return subprocess.run(
            [executable("rabbitmqctl", SCRIPTS), "--quiet", *arguments],
            env=self._environment(),
            check=True,
            capture_output=True,
            text=True,
            timeout=patience(60),
        ).stdout

    def evaluate(self, expression: str) -> str:
        """What an Erlang expression gives inside the node, as text. Raises AssertionError.

        By erl_call, because rabbitmqctl takes most of a second of processor time for its own
        start (https://www.erlang.org/doc/apps/erl_interface/erl_call_cmd.html).
        """
        place = ("-address", f"{HOST}:{self._distribution_port}")
        cookie = ("-c", (self.folder / ".erlang.cookie").read_text())
        called = subprocess.run(
            [executable("erl_call"), *place, *cookie, "-e"],
            check=False,
            input=f"{expression}.\n",
            capture_output=True,
            text=True,
            timeout=patience(60),
        )
        assert called.stdout.startswith("{ok, "), called.stdout + called.stderr
        return called.stdout.removeprefix("{ok, ").removesuffix("}")

    def subscriptions(self, vhost: str, queue: str) -> dict[str, bool]:
        """The channels of all consumers of ``queue``, and whether each is active."""
        found = self.evaluate(_SUBSCRIPTIONS.format(vhost=vhost, queue=queue))
        return {
            channel: active == "true"
            for channel, active in re.findall(r"(<\S+>)=(true|false)", found)
        }

    def program(self) -> Program:
        server = executable("rabbitmq-server", SCRIPTS)
        self._start_epmd()
        (self.folder / "rabbitmq.conf").write_text("\n".join(self._configuration()) + "\n")
        (self.folder / "plugins").write_text("[rabbitmq_management].")
        # Statistics every half second instead of every five, and the counts in them every second,
        # for the tests that wait for them.
        (self.folder / "advanced.config").write_text(
            "[{rabbit, [{quorum_tick_interval, 500}, {collect_statistics_interval, 500}]},"
            " {rabbitmq_management_agent, [{sample_retention_policies,"
            " [{global, [{60, 1}]}, {basic, [{60, 1}]}, {detailed, [{10, 1}]}]}]}]."
        )
        return Program(
            "rabbitmq", (server,), environment=self._environment(), log=self.folder / "log"
        )

    def _configuration(self) -> list[str]:
        return [
            f"listeners.tcp.default = {HOST}:{self.port}",
            "disk_free_limit.absolute = 50MB",
            f"management.tcp.ip = {HOST}",
            f"management.tcp.port = {self._api_port}",
        ]

    def answers(self) -> bool:
        """Also at the management API, which starts last."""
        if not is_open(self._api_port):
            return False
        try:
            with socket.create_connection((HOST, self.port), 1.0) as connection:
                connection.sendall(PROTOCOL_HEADER)
                return bool(connection.recv(1))
        except OSError:
            return False

    def close(self) -> None:
        if self._epmd and self._epmd.running:
            self._epmd.kill()
            wait_until(self._epmd.has_exited, what="epmd is killed")
            self._epmd.close()
        super().close()

    def _start_epmd(self) -> None:
        """Erlang would start one as a daemon, and nobody would stop it."""
        command = (executable("epmd"), "-port", str(self._epmd_port), "-address", HOST)
        self._epmd = Child(Program("epmd", command, log=self.folder / "epmd.log"))
        self._epmd.start()
        wait_until(lambda: is_open(self._epmd_port), what="epmd answers")

    def _environment(self) -> Mapping[str, str]:
        kept = {key: value for key, value in os.environ.items() if "RABBITMQ" not in key}
        return kept | {
            "HOME": str(self.folder),
            "ERL_CRASH_DUMP": str(self.folder / "erl_crash.dump"),
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": HOST,
            "RABBITMQ_NODENAME": f"chatbus-test-{self.port}@localhost",
            "RABBITMQ_DIST_PORT": str(self._distribution_port),
            "RABBITMQ_CTL_DIST_PORT_MIN": str(self._tools_port),
            "RABBITMQ_CTL_DIST_PORT_MAX": str(self._tools_port),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "data"),
            "RABBITMQ_LOG_BASE": str(self.folder / "logs"),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self.folder / "advanced.config"),
            # Idle schedulers that spin would take the processors from what is tested.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+sbwt none +sbwtdcpu none +sbwtdio none",
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "plugins"),
            # The script then becomes the Erlang machine, which so ends with the tests.
            "RUNNING_UNDER_SYSTEMD": "true",
        }
