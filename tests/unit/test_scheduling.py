"""How the tests are spread over the workers: one that splits a file would start servers twice."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

from tests.support.scheduling import BACKENDS, LONGEST, group, turn
from tests.support.wait import patience

ROOT = Path(__file__).parents[2]
FILES = [f"tests/unit/bus/{name}.py" for name in ("test_topology", "test_batching", "test_process")]


def test_tests_on_one_system_are_one_group() -> None:
    assert group("tests/fault/test_bridge.py::test_x[a]") == group("tests/fault/test_stores.py::y")
    assert group("tests/fault/test_crowd.py::y") == "tests/fault/test_crowd.py"
    chat = "tests/flow/test_chat.py::test_x"
    assert group(f"{chat}[web-real]") == group("tests/browser/test_forms.py::test_y[real]")
    assert group(f"{chat}[web-real]") != group(f"{chat}[web-embedded]")


def test_what_begins_first_is_there() -> None:
    groups = [name for name in LONGEST if name not in BACKENDS]
    assert all((ROOT / name).exists() for name in groups)
    turns = [turn(f"{name}::x" if name.endswith(".py") else f"{name}/x.py::x") for name in groups]
    assert max(turns) < turn("tests/unit/test_cli.py::y")


def test_the_tests_of_a_file_run_on_one_worker() -> None:
    inherited = {key: value for key, value in os.environ.items() if "PYTEST" not in key}
    finished = subprocess.run(
        [sys.executable, "-m", "pytest", "-v", "--numprocesses=2", *FILES],
        cwd=ROOT,
        env=inherited,
        capture_output=True,
        text=True,
        timeout=patience(120),
        check=False,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    workers = defaultdict(set)
    for worker, path in re.findall(r"^\[(gw\d)\] .*PASSED (\S+)::", finished.stdout, re.MULTILINE):
        workers[path].add(worker)
    assert sorted(workers) == sorted(FILES), finished.stdout
    assert {len(those) for those in workers.values()} == {1}, workers
    assert len(set.union(*workers.values())) == 2, "one worker did all"
