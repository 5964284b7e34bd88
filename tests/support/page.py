"""A page of the documentation that a test does word by word.

A fence with a file's name writes that file, or as ``diff`` changes it::

    ```diff setup.cfg
    -the line that was there
    +the line that takes its place
    ```

In a ``console`` fence, lines with ``$`` are commands; what is shown below one is what it prints,
where ``…`` stands for anything.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bus.runtime.process import die_with_parent

FENCE = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.M | re.S)
SECONDS = 120
# `chatbus topology plan` ends with 3 when it found a difference.
FINE = (0, 3)


@dataclass(frozen=True, slots=True)
class Command:
    line: str
    output: str

    def check(self, printed: str) -> None:
        """Compares with what the page shows, if it shows anything."""
        pattern = re.escape(_squeezed(self.output)).replace("…", ".*?")
        if self.output and not re.fullmatch(pattern, _squeezed(printed), re.S):
            raise AssertionError(f"{self.line}: the page shows\n{self.output}\nnot\n{printed}")


def _squeezed(text: str) -> str:
    """Columns are separated by tabs where there is no terminal."""
    return re.sub(r"[ \t]+", " ", text)


class Page:
    def __init__(self, path: Path) -> None:
        self._text = path.read_text()

    def apply(self, folder: Path) -> None:
        """Writes and changes the files of the page in ``folder``."""
        for language, name, block in FENCE.findall(self._text):
            if name and language == "diff":
                _change(folder / name, block)
            elif name:
                (folder / name).write_text(block)

    def blocks(self, heading: str, language: str) -> list[str]:
        """What is in the fences of that language below ``## heading``."""
        _, _, rest = self._text.partition(f"\n## {heading}\n")
        section, _, _ = rest.partition("\n## ")
        return [block for found, _, block in FENCE.findall(section) if found == language]

    def consoles(self, heading: str) -> list[list[Command]]:
        return [_commands(block) for block in self.blocks(heading, "console")]


def _commands(block: str) -> list[Command]:
    return [
        Command(*part.partition("\n")[::2]) for part in re.split(r"^\$ ", block, flags=re.M)[1:]
    ]


def _change(path: Path, diff: str) -> None:
    """Puts the lines with a plus in the place of those with a minus, which must be there once."""
    lines = [(line[:1], line[1:]) for line in diff.splitlines(keepends=True)]
    old = "".join(line for sign, line in lines if sign != "+")
    new = "".join(line for sign, line in lines if sign != "-")
    text = path.read_text()
    assert text.count(old) == 1, f"{path.name} has {text.count(old)} times:\n{old}"
    path.write_text(text.replace(old, new))


class Shell:
    """Runs a page's commands in ``folder``, whose modules they import."""

    def __init__(self, folder: Path, settings: Mapping[str, str]) -> None:
        self._folder = folder
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self.env = {**os.environ, **settings, "PATH": path, "PYTHONPATH": str(folder)}

    def run(self, command: Command) -> None:
        """Runs it to its end, and compares what it prints with the page."""
        if command.line.startswith("export "):
            name, _, value = command.line.removeprefix("export ").partition("=")
            self.env[name] = value
            return
        finished = subprocess.run(
            shlex.split(command.line),
            cwd=self._folder,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert finished.returncode in FINE, (command.line, finished.stdout, finished.stderr)
        command.check(finished.stdout)

    @contextmanager
    def running(self, command: Command) -> Iterator[subprocess.Popen[bytes]]:
        """Runs one that ends with ``&`` beside the test."""
        process = subprocess.Popen(
            shlex.split(command.line.removesuffix("&")),
            cwd=self._folder,
            env=self.env,
            preexec_fn=die_with_parent(),  # noqa: PLW1509 - it only calls prctl
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()
