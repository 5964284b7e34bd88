"""A MariaDB of a Galera cluster of one, whose disk can be full."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from deploy.local.child import Program
from tests.support.ports import HOST, free_port
from tests.support.servers import MariaDB, ServerMissing
from tests.support.wait import wait_until

if TYPE_CHECKING:
    import MySQLdb

PROVIDER = Path("/usr/lib/galera/libgalera_smm.so")
# A server of MariaDB ends by SIGXFSZ, which a disk that is full does not send.
IGNORING_THE_SIGNAL = ("sh", "-c", 'trap "" XFSZ; exec "$@"', "sh")
# Bytes of a row; the smaller ones fill what is left in a page.
FILLING = (1_000_000, 100_000, 8_000)


class Galera(MariaDB):
    """All tables are in one file, so that one limit holds for all; the redo log is smaller."""

    def program(self) -> Program:
        if not PROVIDER.exists():
            raise ServerMissing("galera-4")
        options = {
            "innodb-file-per-table": 0,
            "innodb-autoextend-increment": 8,
            "innodb-log-file-size": "8M",
            "binlog-format": "ROW",
            "innodb-autoinc-lock-mode": 2,
            "wsrep-on": "ON",
            "wsrep-provider": PROVIDER,
            "wsrep-cluster-address": "gcomm://",
            "wsrep-node-address": HOST,
            "wsrep-provider-options": f"gmcast.listen_addr=tcp://{HOST}:{free_port()}",
        }
        words = [f"--{name}={value}" for name, value in options.items()]
        program = super().program()
        return dataclasses.replace(
            program, command=(*IGNORING_THE_SIGNAL, *program.command, *words)
        )

    def answers(self) -> bool:
        return super().answers() and self._is_in_cluster()

    def _is_in_cluster(self) -> bool:
        return self.status("wsrep_ready") == "ON"

    def status(self, name: str) -> str:
        """One of the status variables (https://mariadb.com/kb/en/server-status-variables/)."""
        return self.execute(f"SHOW GLOBAL STATUS LIKE '{name}'").split()[-1]

    @contextmanager
    def without_quorum(self) -> Iterator[None]:
        """It belongs to no majority of a cluster while the block runs, and waits for none."""
        self.execute("SET GLOBAL wsrep_cluster_address = 'gcomm://127.0.0.1:1?pc.wait_prim=no'")
        try:
            wait_until(lambda: not self._is_in_cluster(), what="it has lost its cluster")
            assert self.execute("SELECT 1") == "1\n"
            yield
        finally:
            self.execute("SET GLOBAL wsrep_cluster_address = 'gcomm://'")
            wait_until(self._is_in_cluster, what="it makes a cluster of its own")

    @contextmanager
    def full(self) -> Iterator[None]:
        """No file may grow while the block runs, and the tables' has no free page left."""
        process = psutil.Process(self.pid)
        size = (self.folder / "data" / "ibdata1").stat().st_size
        before = process.rlimit(psutil.RLIMIT_FSIZE)
        self.execute("CREATE TABLE chatbus.filling (row LONGBLOB)")
        process.rlimit(psutil.RLIMIT_FSIZE, (size, before[1]))
        try:
            self._fill()
            yield
        finally:
            process.rlimit(psutil.RLIMIT_FSIZE, before)
            self.execute("DROP TABLE chatbus.filling")

    def _fill(self) -> None:
        import MySQLdb

        with self.connect() as connection:
            for size in FILLING:
                with pytest.raises(MySQLdb.OperationalError, match="is full"):
                    _insert_for_ever(connection, size)

    @contextmanager
    def connect(self) -> Iterator[MySQLdb.Connection]:
        """A connection as root, whose transaction ends with the block at the latest."""
        import MySQLdb  # without it no MariaDB is started

        with closing(MySQLdb.connect(unix_socket=str(self._socket), user="root")) as connection:
            yield connection


def _insert_for_ever(connection: MySQLdb.Connection, size: int) -> None:
    while True:
        connection.query(f"INSERT INTO chatbus.filling VALUES (REPEAT('x', {size}))")
        connection.commit()
