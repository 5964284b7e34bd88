"""Where the pages of a running stack are found."""

from __future__ import annotations

import pytest

from tests.support.stack import Stack


@pytest.fixture(scope="module", params=["web", "gateway"])
def site(request: pytest.FixtureRequest, backend: Stack) -> str:
    """The same pages, answered by the web tier or held by the gateway."""
    return backend.base_url if request.param == "web" else backend.gateway_url
