"""Every setting that the code reads is on a page."""

from __future__ import annotations

import re
from pathlib import Path

from webapp.limits.rates import LIMITS

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "docs" / "settings.md", ROOT / "docs" / "gateway.md")
PACKAGES = ("bus", "webapp", "consumers", "bridge", "deploy")
METHODS = "text|integer|seconds|flag|words|url|optional_url|secrets?|proxies|_each|_canonical"
READ = re.compile(rf"\b(?:{METHODS})\(\s*\"([A-Z][A-Z_]+)\"")


def test_every_setting_is_documented() -> None:
    sources = [path.read_text() for name in PACKAGES for path in (ROOT / name).rglob("*.py")]
    names = {name for source in sources for name in READ.findall(source)}
    assert {"BRIDGE_URL", "OPS_PORT", "WORKER_THREADS"} <= names, "the pattern finds them"
    names.update(limit.setting for limit in LIMITS.values())
    pages = "".join(page.read_text() for page in PAGES)
    assert sorted(name for name in names if f"`{name}`" not in pages) == []
