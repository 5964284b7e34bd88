"""requirements/: what each install takes, by version and hash."""

from __future__ import annotations

import configparser
import re
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "requirements").glob("*.txt"))
PIN = re.compile(
    r"^([\w.-]+)==([^\s;]+)(?: ; [^\\]+)?((?: \\\n    --hash=sha256:[0-9a-f]{64})+)$", re.M
)
OF_CHATBUS = re.compile(r"# \.\[([\w,]+)\]:")


def pins(text: str) -> dict[str, str]:
    return {canonicalize_name(name): version for name, version, _ in PIN.findall(text)}


def needed(extras: set[str]) -> set[str]:
    """The packages that chatbus needs here with ``extras``, and those that these need."""
    left, found = list(of_chatbus(extras)), set()
    while left:
        requirement = left.pop()
        package = canonicalize_name(requirement.name), frozenset(requirement.extras)
        if package not in found:
            found.add(package)
            left += of_package(*package)
    return {name for name, _ in found}


def of_chatbus(extras: set[str]) -> Iterator[Requirement]:
    options = configparser.ConfigParser()
    options.read(ROOT / "setup.cfg")
    texts = options["options"]["install_requires"].splitlines()
    for extra in extras:
        texts += options["options.extras_require"][extra].splitlines()
    for requirement in map(Requirement, filter(None, texts)):
        if requirement.name == "chatbus":
            yield from of_chatbus(requirement.extras)
        elif requirement.marker is None or requirement.marker.evaluate():
            yield requirement


def of_package(name: str, extras: frozenset[str]) -> Iterator[Requirement]:
    try:
        texts = metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        return  # another install's
    for requirement in map(Requirement, texts):
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            yield requirement


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_package_has_its_version_and_hashes(file: Path) -> None:
    text = file.read_text()
    lines = [line for line in text.splitlines() if not line.startswith(("#", "    --hash=sha256:"))]
    assert len(pins(text)) == len(lines) > 0
    assert pins(text).items() <= pins_of_constraints().items(), "run make lock"


def pins_of_constraints() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    found = dict(line.split("==") for line in lines if not line.startswith("#"))
    return {canonicalize_name(name): version for name, version in found.items()}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_no_package_is_missing(file: Path) -> None:
    text = file.read_text()
    if of := OF_CHATBUS.match(text):
        assert needed(set(of[1].split(","))) - set(pins(text)) == set(), "run make lock"
    else:
        assert file.stem == "build"


def test_nothing_else_is_installed() -> None:
    recipes = [(ROOT / name).read_text() for name in ("Makefile", "deploy/Dockerfile")]
    installs = re.findall(r"pip .*\binstall\b.*|\$\(PIP\) .*", "".join(recipes))
    without = [line for line in installs if not re.search("--require-hashes|--no-index", line)]
    assert [line.split()[-1] for line in without] == ["--no-compile", "uv==0.13.9"]
