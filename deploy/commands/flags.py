"""Flags that only some actions of a command have."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence

from bus.errors import SettingError


def check_flags(arguments: argparse.Namespace, actions: Mapping[str, Sequence[str]]) -> None:
    """Raises SettingError for a given flag that ``arguments.action`` would ignore.

    ``actions``: flag → the actions that have it.
    """
    for flag, accepted in actions.items():
        is_given = getattr(arguments, flag.removeprefix("--").replace("-", "_"))
        if is_given and arguments.action not in accepted:
            raise SettingError(flag, f"is for {' and '.join(accepted)}, not {arguments.action}")
