"""Certificates for servers of tests, made by the openssl command."""

from __future__ import annotations

import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.support.servers import executable
from tests.support.wait import patience

_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")


@dataclass(frozen=True, slots=True)
class Certificate:
    """The files of a certificate and its key."""

    file: Path
    key: Path

    def server_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.file, self.key)
        return context


class Authority:
    """A certificate authority of its own in ``folder``; ``file`` is its certificate."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        own = self._make(
            "authority", "/CN=Authority of a test", "basicConstraints=critical,CA:TRUE"
        )
        self.file, self._key = own.file, own.key

    def certificate(self, name: str, host: str) -> Certificate:
        """One for ``host``, as it stands in the file ``name``."""
        kind = "IP" if host.replace(".", "").isdigit() else "DNS"
        signed = ("-CA", str(self.file), "-CAkey", str(self._key))
        return self._make(name, f"/CN={host}", f"subjectAltName={kind}:{host}", *signed)

    def _make(self, name: str, subject: str, extension: str, *options: str) -> Certificate:
        made = Certificate(self._folder / f"{name}.pem", self._folder / f"{name}.key")
        files = ("-out", str(made.file), "-keyout", str(made.key))
        words = ("-subj", subject, "-addext", extension, *options)
        subprocess.run(
            [executable("openssl"), "req", "-x509", *_KEY, *files, *words],
            check=True,
            capture_output=True,
            timeout=patience(30),
        )
        return made
