"""Every process as docker-compose.yml runs it: as a user of its own on each server."""

from __future__ import annotations

import json
import os
import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pymongo

from deploy.local.child import Child, Program, chatbus_command
from deploy.processes import PROCESSES
from tests.support.command import chatbus
from tests.support.ports import HOST, free_ports, is_open
from tests.support.rabbitmq import RabbitMQ
from tests.support.servers import MariaDB, Redis, Secantus
from tests.support.wait import patience, wait_until

DEPLOY = Path(__file__).parents[2] / "deploy"
PERMISSIONS = json.loads((DEPLOY / "compose/rabbitmq-permissions.json").read_text())["permissions"]
# Name, where its password is, role.
MONGO_USERS = re.findall(
    r'make\("(\w+)", (\w+), "(\w+)"\);', (DEPLOY / "compose/mongo-health.sh").read_text()
)
# Reads the script as MySQL's image does, and prints what it would run.
PRINT_SQL = """
docker_process_sql() { command cat; }
cat() { command cat "${1##*/}"; }
. "$0"
"""


class Secrets:
    """What deploy/make-secrets.sh makes, in a copy of its folder."""

    def __init__(self, folder: Path) -> None:
        script = folder / "make-secrets.sh"
        script.write_bytes((DEPLOY / "make-secrets.sh").read_bytes())
        subprocess.run(["bash", script], check=True, capture_output=True)
        self.folder = folder / "secrets"

    def settings(self, name: str) -> dict[str, str]:
        """Of the env file ``name``."""
        lines = (self.folder / f"{name}.env").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines)

    def users_of_rabbitmq(self) -> list[dict[str, Any]]:
        users: list[dict[str, Any]] = json.loads((self.folder / "rabbitmq-users.json").read_text())[
            "users"
        ]
        return users

    def grants(self) -> str:
        """The SQL that makes the web tier's user of MySQL."""
        script = DEPLOY / "compose/mysql-web.sh"
        command = ["bash", "-c", PRINT_SQL, str(script)]
        return subprocess.run(
            command, cwd=self.folder, check=True, capture_output=True, text=True
        ).stdout


class RedisWithUsers(Redis):
    """Configured by the file of docker-compose.yml."""

    def __init__(self, secrets: Secrets) -> None:
        super().__init__()
        self._configuration = secrets.folder / "redis.conf"

    def program(self) -> Program:
        program = super().program()
        place = ("--port", str(self.port), "--bind", HOST)
        configuration = self.folder / "redis.conf"
        text = self._configuration.read_text()
        configuration.write_text(text.replace("dir /data", f"dir {self.folder}"))
        command = (program.command[0], str(configuration), *place)
        return Program("redis", command, log=program.log)

    def answers(self) -> bool:
        return is_open(self.port)


class MongoWithUsers(Secantus):
    """With the users that docker-compose.yml makes, and no way in for anybody else."""

    def __init__(self, secrets: Secrets) -> None:
        super().__init__()
        self._passwords = secrets.settings("mongo")

    def program(self) -> Program:
        """The users are made while the server still asks for none."""
        program = super().program()
        child = Child(replace(program, answers=self.answers))
        child.start()
        wait_until(lambda: child.probe() or child.ready, what="the open server answers")
        with pymongo.MongoClient(self.url) as client:
            for name, password, role in MONGO_USERS:
                secret = self._passwords[password]
                client.chat.command("createUser", name, pwd=secret, roles=[role])
        child.terminate()
        wait_until(child.has_exited, what="the open server is gone")
        child.close()
        return replace(program, command=(*program.command, "--auth"))


class Site:
    """All processes of chatbus, each with its env file."""

    def __init__(
        self,
        secrets: Secrets,
        rabbitmq: RabbitMQ,
        redis: Redis,
        mariadb: MariaDB,
        mongo: MongoWithUsers,
    ) -> None:
        self._secrets = secrets
        vhost = rabbitmq.fresh_vhost("^$").rpartition("/")[2]
        database = mariadb.fresh_database().rpartition("/")[2]
        self._migrate = mariadb.database(database)
        self._servers = {
            "rabbitmq:5672/%2F": f"{HOST}:{rabbitmq.port}/{vhost}",
            "redis:6379": f"{HOST}:{redis.port}",
            "mysql:3306/chatbus": f"{HOST}:{mariadb.port}/{database}",
            "mongo:27017/chat?replicaSet=chatbus": mongo.url.removeprefix("mongodb://"),
        }
        permissions = [each | {"vhost": vhost} for each in PERMISSIONS]
        users = secrets.users_of_rabbitmq()
        rabbitmq.call("POST", "definitions", {"users": users, "permissions": permissions})
        mariadb.execute(secrets.grants().replace("chatbus.*", f"{database}.*"))
        port = free_ports(3)
        self.url, self.gateway_url = (f"http://{HOST}:{number}" for number in (port, port + 2))
        self._settings = {
            "BROKER_API_URL": rabbitmq.api_url,
            "ALLOWED_ORIGINS": f"{self.url},{self.gateway_url}",
            "BRIDGE_URL": f"ws://{HOST}:{port + 1}/",
        }
        for number, name in enumerate(("WEB", "BRIDGE", "GATEWAY")):
            self._settings |= {f"{name}_HOST": HOST, f"{name}_PORT": str(port + number)}
        self._children: list[Child] = []

    def settings(self, name: str) -> dict[str, str]:
        """Of an env file, with the addresses of the servers here."""
        found = self._secrets.settings(name)
        for there, here in self._servers.items():
            found = {key: value.replace(f"@{there}", f"@{here}") for key, value in found.items()}
        return found | self._settings

    def command(self, *words: str, user: str) -> str:
        """What a command prints that has the settings of ``user``."""
        run = chatbus(*words, **self.settings(user))
        assert run.returncode == 0, run.stdout + run.stderr
        return run.stdout

    def start(self, log: Path) -> None:
        self.log = log
        migrated = chatbus("migrate", **self.settings("migrate") | {"DATABASE_URL": self._migrate})
        assert migrated.returncode == 0, migrated.stderr
        self.command("topology", "apply", user="topology")
        for name in PROCESSES:
            env_file = "web" if name == "outbox_relay" else name
            environment = os.environ | self.settings(env_file)
            program = Program(name, chatbus_command("run", name), environment, log)
            self._children.append(Child(program))
            self._children[-1].start()
        for child in self._children:
            child.notifications.settimeout(patience(60))
            child.notified()

    def stop(self) -> None:
        for child in self._children:
            child.kill()
            wait_until(child.has_exited, what=f"{child.name} is gone")
            child.close()
