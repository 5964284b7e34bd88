"""Which tests run on one worker of pytest-xdist, because they share servers.

``--dist loadgroup`` of pytest-xdist 3.8 groups nothing with pytest 9: it writes the group to a
field of the test that pytest no longer reads.
"""

from __future__ import annotations

import pytest
from xdist.scheduler import LoadScopeScheduling

# Parameters of fixtures that start whole systems; each of these runs on one worker.
BACKENDS = {"embedded", "real"}
# The groups that take longest, longest first.
LONGEST = ("tests/contract/test_rpc.py", "tests/contract/test_pause.py", "real", "embedded")


class ByServers(LoadScopeScheduling):
    """Hands out the groups in the order of the collection, each to one worker."""

    def _split_scope(self, nodeid: str) -> str:
        return group(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> ByServers:
    config.option.loadscopereorder = False
    return ByServers(config, log)


def group(nodeid: str) -> str:
    """A file's tests stay together. All files on one ``backend``, and all on the ``system`` of
    the fault tests, do so too."""
    path, _, test = nodeid.partition("::")
    suite = path.split("/")[1]
    if suite in ("browser", "flow") and (backend := BACKENDS & parameters(test)):
        return backend.pop()
    return path


def parameters(test: str) -> set[str]:
    return set(test.partition("[")[2].rstrip("]").split("-"))


def turn(nodeid: str) -> int:
    """Groups that take longest begin first, or one worker would do the last of them alone."""
    name = group(nodeid)
    return LONGEST.index(name) if name in LONGEST else len(LONGEST)
