"""Headless Chromium, and people who sit in front of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from tests.browser.visitor import SECONDS, Visitor
from tests.conftest import fail_or_skip
from tests.support.person import Person
from tests.support.servers import ServerMissing, executable

Visit = Callable[[Person], Visitor]
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


# Playwright keeps an event loop running in this thread, and other suites run their own: so it
# ends with this package.
@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    try:
        # The shell takes a third of the processor time of the whole browser without a window.
        chromium = shutil.which("chromium-headless-shell") or executable("chromium")
    except ServerMissing as missing:
        fail_or_skip(missing)
    expect.set_options(timeout=SECONDS * 1000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visit]:
    """Gives a person a browser of their own; at the end its console must show no complaint."""
    visitors: list[Visitor] = []

    def visit(person: Person) -> Visitor:
        visitors.append(Visitor(browser.new_context(base_url=person.site), person))
        return visitors[-1]

    yield visit
    complaints = {visitor.person.name: visitor.complaints for visitor in visitors}
    for visitor in visitors:
        visitor.page.context.close()
    assert not any(complaints.values()), complaints
