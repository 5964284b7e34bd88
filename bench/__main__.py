"""`python -m bench [NAME …]`: runs the benchmarks and prints what they saw."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable
from pathlib import Path

from bench import backlog, compression, consuming, importing, latency, machine, publishing, startup

BENCHMARKS: dict[str, Callable[[argparse.Namespace], None]] = {
    "startup": startup.run,
    "publishing": publishing.run,
    "consuming": consuming.run,
    "backlog": backlog.run,
    "latency": latency.run,
    "compression": compression.run,
    "import": importing.run,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--file", type=Path, help="real messages, for import and compression")
    parser.add_argument("--messages", type=int, help="how many, for consuming and backlog")
    arguments = parser.parse_args()
    unknown = set(arguments.names) - BENCHMARKS.keys()
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}; accepted are {', '.join(BENCHMARKS)}")
    logging.disable(logging.WARNING)
    for line in machine.describe():
        print(line)
    for name in arguments.names or BENCHMARKS:
        print(f"\n## {name}")
        BENCHMARKS[name](arguments)


if __name__ == "__main__":
    main()
