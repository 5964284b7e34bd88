"""The ``chatbus`` command as its users run it."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.support.wait import patience

COMMAND = (sys.executable, "-P", "-m", "deploy.cli")


def chatbus(*words: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Runs it to its end, without the servers of the environment."""
    inherited = {key: value for key, value in os.environ.items() if not key.endswith("_URL")}
    return subprocess.run(
        [*COMMAND, *words],
        env=inherited | settings,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=patience(120),
        check=False,
    )
