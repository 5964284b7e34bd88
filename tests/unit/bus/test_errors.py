"""The tree of errors in the docstring is the tree of classes."""

from __future__ import annotations

from bus import errors
from bus.errors import BusError

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type)]


def drawn() -> dict[str, str]:
    """Each error in the docstring, and the one that it is drawn below."""
    assert errors.__doc__
    parents: dict[str, str] = {}
    path: list[str] = []
    for line in errors.__doc__.splitlines():
        indent, bullet, text = line.partition("* ")
        if bullet:
            path = [*path[: len(indent) // 4], text.partition(":")[0]]
            parents[path[-1]] = path[-2] if path[1:] else "Exception"
    return parents


def test_the_tree_in_the_docstring_is_that_of_the_classes() -> None:
    assert drawn() == {kind.__name__: kind.__base__.__name__ for kind in KINDS if kind.__base__}


def test_all_errors_have_one_root() -> None:
    assert all(issubclass(kind, BusError) for kind in KINDS)
