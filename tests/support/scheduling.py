"""Which tests run on one worker of pytest-xdist, because they share servers.

``--dist loadgroup`` of pytest-xdist 3.8 groups nothing with pytest 9: it writes the group to a
field of the test that pytest no longer reads.
"""

from __future__ import annotations

import os

import pytest
from xdist.scheduler import LoadScopeScheduling

# Parameters of the fixture ``backend``, a whole system each.
BACKENDS = {"embedded", "real"}
# Its tests need no ``system``, which is the largest of all.
WITHOUT_SYSTEM = "tests/fault/test_crowd.py"
# The groups that take longest, longest first.
LONGEST = (
    "tests/fault",
    "real",
    "embedded",
    "tests/contract/test_pause.py",
    "tests/contract/test_rpc_faults.py",
    "tests/contract/test_consumer_faults.py",
    "tests/flow/test_watching.py",
    "tests/contract/test_publisher_faults.py",
    "tests/contract/test_topology.py",
    "tests/flow/test_status.py",
    "tests/flow/test_up.py",
    "tests/flow/test_new_consumer.py",
    WITHOUT_SYSTEM,
    "tests/unit/bridge/test_transport_fuzz.py",
)
MOST_WORKERS = 4


class ByServers(LoadScopeScheduling):
    """Hands out the groups in the order of the collection, each to one worker."""

    def _split_scope(self, nodeid: str) -> str:
        return group(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> ByServers:
    config.option.loadscopereorder = False
    return ByServers(config, log)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """One more than there are processors: the tests wait for their servers half of the time."""
    return min(MOST_WORKERS, len(os.sched_getaffinity(0)) + 1)


def group(nodeid: str) -> str:
    """A file's tests stay together. All files on one ``backend``, and all on the ``system`` of
    the fault tests, do so too."""
    path, _, test = nodeid.partition("::")
    suite = path.rpartition("/")[0]
    if suite == "tests/fault" and path != WITHOUT_SYSTEM:
        return suite
    if suite in ("tests/browser", "tests/flow") and (backend := BACKENDS & parameters(test)):
        return backend.pop()
    return path


def parameters(test: str) -> set[str]:
    return set(test.partition("[")[2].rstrip("]").split("-"))


def turn(nodeid: str) -> int:
    """Groups that take longest begin first, or one worker would do the last of them alone."""
    name = group(nodeid)
    return LONGEST.index(name) if name in LONGEST else len(LONGEST)
