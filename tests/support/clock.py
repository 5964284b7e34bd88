"""Another wall clock for the processes that a test starts (see clock.c, which they preload)."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.support.servers import ServerMissing

SOURCE = Path(__file__).with_suffix(".c")
NANOSECONDS = 1_000_000_000


class FakeClock:
    """The wall clock of processes: as far from the machine's as it is set to, at any time.

    Their monotonic clock stays the machine's. Raises ServerMissing where gcc is not installed.
    """

    def __init__(self, folder: Path, seconds: float = 0) -> None:
        library, self._file = folder / "clock.so", folder / f"clock{seconds:+}"
        self._file.touch(exist_ok=False)
        self.set(seconds)
        if not library.exists():
            _compile(library)
        self.environment = {"LD_PRELOAD": str(library), "FAKE_CLOCK": str(self._file)}

    def set(self, seconds: float) -> None:
        """Sets it ``seconds`` ahead of the machine's clock."""
        with self._file.open("r+b") as file:
            file.write(int(seconds * NANOSECONDS).to_bytes(8, "little", signed=True))


def _compile(library: Path) -> None:
    if not shutil.which("gcc"):
        raise ServerMissing("gcc")
    subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", library, SOURCE], check=True)
