"""How the tests are spread over the workers: one that splits a file would start servers twice."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

from tests.support.wait import patience

ROOT = Path(__file__).parents[2]
FILES = [f"tests/unit/bus/{name}.py" for name in ("test_topology", "test_batching", "test_process")]


def test_the_tests_of_a_file_run_on_one_worker() -> None:
    inherited = {key: value for key, value in os.environ.items() if "PYTEST" not in key}
    finished = subprocess.run(
        [sys.executable, "-m", "pytest", "-v", "--numprocesses=2", *FILES],
        cwd=ROOT,
        env=inherited,
        capture_output=True,
        text=True,
        timeout=patience(120),
        check=True,
    )
    workers = defaultdict(set)
    for worker, path in re.findall(r"^\[(gw\d)\] .*PASSED (\S+)::", finished.stdout, re.MULTILINE):
        workers[path].add(worker)
    assert sorted(workers) == sorted(FILES), finished.stdout
    assert {len(those) for those in workers.values()} == {1}, workers
    assert len(set.union(*workers.values())) == 2, "one worker did all"
