"""The pages in docs/ name files, functions and words that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
CODE = re.compile(r"`((?:bus|bridge|consumers|deploy|webapp|tests|bench)/[\w./-]*)`")
# `path/of/file.py`: `name`, `other.name`
NAMED = re.compile(r"`([\w/]+\.py)`: ((?:`[\w.]+`(?:, )?)+)")
LINK = re.compile(r"\]\((?!http|#)([^)#]+)(?:#([\w-]+))?\)")


def headings(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", page.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_files_that_a_page_names_exist(page: Path) -> None:
    missing = [path for path in CODE.findall(page.read_text()) if not (ROOT / path).exists()]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for path, heading in LINK.findall(page.read_text()):
        target = page.parent / path
        assert target.exists(), path
        assert not heading or heading in headings(target), f"{path}#{heading}"


def test_the_walk_names_what_is_in_each_file() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    steps = NAMED.findall(page)
    assert len(steps) >= 8
    for path, names in steps:
        source = (ROOT / path).read_text()
        for name in re.findall(r"`([\w.]+)`", names):
            for part in name.split("."):
                assert re.search(rf"\b(class|def) {part}\b", source), f"{path}: {name}"


def test_the_tests_that_security_names_exist() -> None:
    page = (ROOT / "docs" / "security.md").read_text()
    named = NAMED.findall(page)
    assert len(named) >= 20
    for path, names in named:
        source = (ROOT / path).read_text()
        missing = [name for name in re.findall(r"`(\w+)`", names) if f"def {name}(" not in source]
        assert missing == [], path
