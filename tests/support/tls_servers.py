"""Real servers that take connections by TLS, with a given certificate."""

from __future__ import annotations

import dataclasses
import socket
import ssl

from deploy.local.child import Program
from tests.support.certificates import Certificate
from tests.support.ports import HOST, free_port
from tests.support.rabbitmq import USER, RabbitMQ
from tests.support.servers import PASSWORD, MariaDB, Redis, executable


class TlsRedis(Redis):
    """By TLS alone."""

    def __init__(self, certificate: Certificate) -> None:
        super().__init__()
        self._certificate = certificate

    def database(self, number: int) -> str:
        return f"rediss://:{PASSWORD}@{HOST}:{self.port}/{number}"

    def program(self) -> Program:
        settings = {
            "port": 0,
            "tls-port": self.port,
            "tls-cert-file": self._certificate.file,
            "tls-key-file": self._certificate.key,
            "tls-auth-clients": "no",
        }
        program = super().program()
        words = [word for key, value in settings.items() for word in (f"--{key}", str(value))]
        # Debian's, for that of the wheel knows no TLS.
        server = executable("redis-server", "/usr/bin")
        return dataclasses.replace(program, command=(server, *program.command[1:], *words))

    def answers(self) -> bool:
        context = ssl._create_unverified_context()
        try:
            with (
                socket.create_connection((HOST, self.port), 1.0) as plain,
                context.wrap_socket(plain) as connection,
            ):
                connection.sendall(f"AUTH {PASSWORD}\r\nPING\r\nQUIT\r\n".encode())
                return b"+PONG" in b"".join(iter(lambda: connection.recv(4096), b""))
        except OSError:
            return False


class TlsRabbitMQ(RabbitMQ):
    """With a listener and a management API by TLS beside the plain ones."""

    def __init__(self, certificate: Certificate) -> None:
        super().__init__()
        self._certificate = certificate
        self.tls_port = free_port()

    @property
    def tls_url(self) -> str:
        return f"amqps://{USER}:{USER}@{HOST}:{self.tls_port}/%2F"

    @property
    def tls_api_url(self) -> str:
        return self.api_url.replace("http://", "https://")

    def _configuration(self) -> list[str]:
        files = {
            "cacertfile": self._certificate.file,
            "certfile": self._certificate.file,
            "keyfile": self._certificate.key,
        }
        plain = [
            line.replace("management.tcp.", "management.ssl.") for line in super()._configuration()
        ]
        return [
            *plain,
            f"listeners.ssl.default = {HOST}:{self.tls_port}",
            *(f"ssl_options.{name} = {path}" for name, path in files.items()),
            *(f"management.ssl.{name} = {path}" for name, path in files.items()),
            "ssl_options.verify = verify_none",
        ]


class TlsMariaDB(MariaDB):
    """By TLS or without it, as the client likes."""

    def __init__(self, certificate: Certificate) -> None:
        super().__init__()
        self._certificate = certificate

    def program(self) -> Program:
        files = (f"--ssl-cert={self._certificate.file}", f"--ssl-key={self._certificate.key}")
        program = super().program()
        return dataclasses.replace(program, command=(*program.command, *files))
