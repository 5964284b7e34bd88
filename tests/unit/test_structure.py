"""The house: small folders, no import circle, and none of the names that it has outgrown."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterable, Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("bus", "bridge", "deploy", "consumers")
MOST_MODULES = 12

# Private words that docs/glossary.md replaced. Left out are ordinary verbs, such as ``take`` and
# ``drop``, which mean something else elsewhere.
OLD_MODULES = """
    addresses amqp_frames amqp_link amqp_source amqp_values asides backlogs broker burial census
    checks claim feed forks gap hand host http_errors http_rules http_server letter letter_view
    ops probes probing progress redis_link redis_script redis_source room_asides room_batch
    room_log room_reader room_search rpc_messages session_log sessions snapshot source tail talk
    tally together topology_check topology_definitions topology_found topology_proof whereabouts
    wire workers
"""
OLD_NAMES = """
    AmqpLink Archive Aside Asides Backlog Backlogs Burial Census DeadLetters Feed Gap Guest Hand
    Host Inspector Item Letter Link LocalUsers PublishingLink RedisLink Refused Request Rooms
    Sessions Somebody Source Tail Talk Tally TicketDesk Together Wire
    _aside _bare _lane _told broker_lost bound bury claim cut_slow doubt extend_back held_empty
    hold holds holds_message is_anothers keep keep_up lacks lighter_ones open_source patrol
    see_off tell_present welcome
"""
# Names that stood for several things at once; each may stand for one.
COLLISIONS = {"Server", "Settings", "Answer", "Part", "Event"}


def modules(root: Path, packages: Iterable[str]) -> Iterator[Path]:
    for package in packages:
        yield from sorted((root / package).rglob("*.py"))


def crowded_folders(root: Path, packages: Iterable[str]) -> list[str]:
    found = Counter(path.parent for path in modules(root, packages) if path.stem != "__init__")
    return [
        f"{folder.relative_to(root)}: {count} modules"
        for folder, count in found.items()
        if count > MOST_MODULES
    ]


def circle(packages: Iterable[str]) -> list[str]:
    """The modules of an import circle, imports inside functions included; empty without one."""
    graph = grimp.build_graph(*packages, cache_dir=None)
    imports = {each: graph.find_modules_directly_imported_by(each) for each in graph.modules}
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def outgrown_names(root: Path, packages: Iterable[str]) -> list[str]:
    found, old_names = [], OLD_NAMES.split()
    defined = Counter[str]()
    for path in modules(root, packages):
        names = [node.name for node in ast.walk(ast.parse(path.read_text())) if _is_named(node)]
        defined.update(COLLISIONS.intersection(names))
        found += [f"{path.relative_to(root)}: {name}" for name in names if name in old_names]
        found += [f"{path.relative_to(root)}"] if path.stem in OLD_MODULES.split() else []
    return found + [
        f"{name}: defined {count} times" for name, count in defined.items() if count > 1
    ]


def _is_named(node: ast.AST) -> bool:
    return isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)


def test_no_folder_is_crowded() -> None:
    found = crowded_folders(ROOT, (*PACKAGES, "webapp"))
    # Django's own folder, whose modules its settings and gunicorn name.
    assert [each for each in found if not each.startswith("webapp/project:")] == []


def test_no_import_circle() -> None:
    assert circle(PACKAGES) == []


def test_no_outgrown_name() -> None:
    assert outgrown_names(ROOT, PACKAGES) == []


def test_only_the_factory_asks_which_broker_a_url_names() -> None:
    asking = [
        path for path in modules(ROOT, (*PACKAGES, "webapp")) if "is_amqp" in path.read_text()
    ]
    transport = ROOT / "bus" / "transport"
    assert asking == [transport / "factory.py", transport / "urls.py"]


def test_each_of_these_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "crooked"
    folder.mkdir()
    texts = {f"module_{number}": "" for number in range(MOST_MODULES - 3)} | {
        "__init__": "",
        "one": "from crooked import two\nclass Server: ...\n",
        "two": "def f():\n    from crooked.hand import Hand\nclass Server: ...\n",
        "hand": "import crooked.one\nclass Hand:\n    async def see_off(self): ...\n",
    }
    for name, text in texts.items():
        (folder / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    assert crowded_folders(tmp_path, ["crooked"]) == []
    (folder / "one_more.py").touch()
    assert crowded_folders(tmp_path, ["crooked"]) == ["crooked: 13 modules"]
    assert set(circle(["crooked"])) == {"crooked.one", "crooked.two", "crooked.hand"}
    assert outgrown_names(tmp_path, ["crooked"]) == [
        "crooked/hand.py: Hand",
        "crooked/hand.py: see_off",
        "crooked/hand.py",
        "Server: defined 2 times",
    ]
