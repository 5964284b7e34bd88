from __future__ import annotations

import gzip
import json
from codecs import BOM_UTF8
from pathlib import Path
from typing import Any

import pytest

from bus import events
from webapp.importing.ids import message_id
from webapp.importing.lines import Line, LineReader, Malformed


def row(**fields: Any) -> dict[str, Any]:
    return {"room": "r", "at": "2004-12-25T09:14:00Z", "user": "u", "body": "hi"} | fields


def read(path: Path, content: bytes) -> list[Line | Malformed]:
    path.write_bytes(content)
    return list(LineReader(path))


@pytest.mark.parametrize(
    ("at", "kept"),
    [
        ("2004-12-25T09:14:00Z", "2004-12-25T09:14:00.000Z"),
        ("2004-12-25t09:14:00z", "2004-12-25T09:14:00.000Z"),
        ("2004-12-25 09:14:00.5+01:00", "2004-12-25T08:14:00.500Z"),
        ("2004-12-25T23:59:59.9999Z", "2004-12-25T23:59:59.999Z"),
        ("2004-12-25T23:59:59.999999999Z", "2004-12-25T23:59:59.999Z"),
        ("2016-12-31T23:59:60Z", "2016-12-31T23:59:59.999Z"),
        ("2016-12-31T23:59:60.75Z", "2016-12-31T23:59:59.999Z"),
        ("1990-12-31t15:59:60-08:00", "1990-12-31T23:59:59.999Z"),
        ("1970-01-01T00:00:00.0009Z", "1970-01-01T00:00:00.000Z"),
        ("9998-12-31T23:59:59.9999Z", "9998-12-31T23:59:59.999Z"),
    ],
)
def test_times_are_cut_to_the_millisecond_and_never_rounded_up(
    tmp_path: Path, at: str, kept: str
) -> None:
    [line] = read(tmp_path / "log.jsonl", json.dumps(row(at=at)).encode())
    assert isinstance(line, Line)
    assert events.timestamp(message_id(line.milliseconds, 0, 0)) == kept


@pytest.mark.parametrize(
    "at",
    [
        "",
        "2004-12-25",
        "2004-12-25T09:14:00",
        "2004-12-25T09:14:61Z",
        "2004-12-25T09:60:00Z",
        "2004-12-25T24:59:60Z",
        "1969-12-31T23:59:59.9999Z",
        "9999-01-01T00:00:00Z",
        "9999-12-31T23:59:60-00:01",
    ],
)
def test_other_times_are_malformed_and_the_problem_says_what_is_accepted(
    tmp_path: Path, at: str
) -> None:
    [line] = read(tmp_path / "log.jsonl", json.dumps(row(at=at)).encode())
    assert isinstance(line, Malformed)
    assert repr(at) in line.problem
    assert "2004-12-25T09:14:00Z" in line.problem


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"], ids=["LF", "CRLF"])
def test_a_byte_order_mark_and_blank_lines_are_skipped(
    tmp_path: Path, pack: Any, end: bytes
) -> None:
    texts = [json.dumps(row(body=body)).encode() for body in "ab"]
    content = BOM_UTF8 + end + end.join(texts) + end + b"{" + end
    found = read(tmp_path / "log", pack(content))
    assert [line.body if isinstance(line, Line) else line.number for line in found] == ["a", "b", 4]
    found = read(tmp_path / "log", pack(BOM_UTF8 + end.join(texts)))
    assert [isinstance(line, Line) for line in found] == [True, True]
