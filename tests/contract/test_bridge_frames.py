"""RFC 6455 on raw sockets: what breaks the rules ends with the right close code, and nothing else
does."""

from __future__ import annotations

import logging
import os
import random
import uuid
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.contract import chat
from tests.contract.chat import ORIGIN, Bridge, Browser
from tests.support.raw_socket import (
    BINARY,
    CLOSE,
    CONTINUATION,
    FIN,
    KEY,
    PING,
    PONG,
    TEXT,
    RawSocket,
    frame,
)

PING_TEXT = b'{"type":"ping"}'
PONG_TEXT = b'{"type":"pong"}'
GOODBYE = frame(CLOSE, (1000).to_bytes(2))
FRAMES = int(os.environ.get("FUZZ", "10000"))
HEAD = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13")


@pytest.fixture(scope="module")
def bridge(redis_url: str) -> Iterator[Bridge]:
    with Bridge(chat.settings(redis_url)) as bridge:
        yield bridge


@pytest.fixture
def raw(bridge: Bridge) -> Iterator[RawSocket]:
    """A socket that is authenticated; its answer to that is read."""
    with RawSocket(bridge.port) as raw:
        assert raw.shake_hands(ORIGIN).startswith(b"HTTP/1.1 101 ")
        ticket = chat.ticket(1, []).encode()
        raw.send(frame(TEXT, b'{"type":"authenticate","ticket":"%b"}' % ticket))
        raw.send(frame(PING, b"ready?"))
        received = b""
        while b"refresh_in" not in received:
            received += raw.socket.recv(4_096)
        yield raw


def _messages(raw: RawSocket, *frames: bytes) -> tuple[list[bytes], int | None]:
    for data in frames:
        raw.send(data)
    got, code = raw.until_closed()
    return [payload for payload in got if payload != b"ready?"], code


class TestGood:
    def test_closing(self, raw: RawSocket) -> None:
        assert _messages(raw, GOODBYE) == ([], 1000)

    def test_closing_without_a_code(self, raw: RawSocket) -> None:
        assert _messages(raw, frame(CLOSE)) == ([], 0)

    @pytest.mark.parametrize("code", [1001, 1011, 3000, 4999])
    def test_a_close_code_is_echoed(self, raw: RawSocket, code: int) -> None:
        assert _messages(raw, frame(CLOSE, code.to_bytes(2) + "bye, é".encode())) == ([], code)

    def test_nothing_counts_after_the_close_frame(self, raw: RawSocket) -> None:
        assert _messages(raw, GOODBYE + frame(TEXT, PING_TEXT)) == ([], 1000)

    def test_a_message_in_fragments_with_control_frames_between(self, raw: RawSocket) -> None:
        got, code = _messages(
            raw,
            frame(TEXT, PING_TEXT[:4], first=TEXT),
            frame(PING, b"1"),
            frame(CONTINUATION, PING_TEXT[4:9], first=CONTINUATION),
            frame(PONG, b"not asked for"),
            frame(CONTINUATION, b"", first=CONTINUATION),
            frame(PING, b"2"),
            frame(CONTINUATION, PING_TEXT[9:]),
            frame(TEXT, PING_TEXT),
            GOODBYE,
        )
        assert (sorted(got), code) == ([b"1", b"2", PONG_TEXT, PONG_TEXT], 1000)

    def test_a_character_cut_in_two(self, raw: RawSocket) -> None:
        text = '{"type":"pïng"}'.encode()
        middle = text.index("ï".encode()) + 1
        got = _messages(
            raw, frame(TEXT, text[:middle], first=TEXT), frame(CONTINUATION, text[middle:])
        )
        assert got == ([], 4400)

    def test_bytes_that_come_one_by_one(self, raw: RawSocket) -> None:
        data = frame(TEXT, PING_TEXT) + GOODBYE
        assert _messages(raw, *(bytes([byte]) for byte in data)) == ([PONG_TEXT], 1000)

    def test_many_frames_at_once(self, raw: RawSocket) -> None:
        data = frame(TEXT, PING_TEXT) * 500 + GOODBYE
        assert _messages(raw, data) == ([PONG_TEXT] * 500, 1000)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        pytest.param(frame(TEXT, PING_TEXT, first=FIN | TEXT | 0x40), 1002, id="RSV1"),
        pytest.param(frame(TEXT, PING_TEXT, first=FIN | TEXT | 0x20), 1002, id="RSV2"),
        pytest.param(frame(PING, b"", first=FIN | PING | 0x10), 1002, id="RSV3"),
        *(pytest.param(frame(n), 1002, id=f"opcode {n}") for n in (3, 7, 11, 15)),
        pytest.param(b"\x81\x0f" + PING_TEXT, 1002, id="no mask"),
        pytest.param(frame(PING, first=PING), 1002, id="a ping in fragments"),
        pytest.param(frame(PING, b"x" * 126), 1002, id="a ping of 126 bytes"),
        pytest.param(frame(CLOSE, b"\x03\xe8" + b"x" * 124), 1002, id="a close of 126 bytes"),
        pytest.param(frame(CONTINUATION, PING_TEXT), 1002, id="a continuation of nothing"),
        pytest.param(frame(TEXT, b"{", first=TEXT) + frame(TEXT, b"}"), 1002, id="two beginnings"),
        pytest.param(frame(TEXT, b"\xff"), 1007, id="no UTF-8"),
        pytest.param(frame(TEXT, b"\xed\xa0\x80"), 1007, id="a surrogate in UTF-8"),
        pytest.param(frame(TEXT, "é".encode()[:1]), 1007, id="half a character"),
        pytest.param(frame(BINARY, PING_TEXT), 4400, id="binary"),
        pytest.param(frame(BINARY, PING_TEXT, first=BINARY), 4400, id="binary in fragments"),
        pytest.param(frame(TEXT, b"x" * 65_537), 4413, id="65,537 bytes"),
        pytest.param(
            (frame(TEXT, b"x" * 40_000, first=TEXT) + frame(CONTINUATION, b"x" * 40_000)),
            4413,
            id="80,000 bytes in fragments",
        ),
        pytest.param(b"\x81\xff" + (300_000).to_bytes(8), 1009, id="300,000 bytes announced"),
        pytest.param(b"\x81\xff" + (2**62).to_bytes(8), 1009, id="2**62 bytes announced"),
        pytest.param(b"\x81\xff" + b"\xff" * 8, 1009, id="2**64 - 1 bytes announced"),
        pytest.param(frame(CLOSE, b"\x03"), 1002, id="a close of one byte"),
        *(
            pytest.param(frame(CLOSE, code.to_bytes(2)), 1002, id=f"close code {code}")
            for code in (0, 999, 1004, 1005, 1006, 1015, 2999, 5000, 65_535)
        ),
        pytest.param(frame(CLOSE, b"\x03\xe8\xff"), 1007, id="a reason that is no UTF-8"),
    ],
)
def test_bad_frames(raw: RawSocket, data: bytes, code: int) -> None:
    assert _messages(raw, data) == ([], code)


def test_too_many_frames(bridge: Bridge, raw: RawSocket) -> None:
    with Browser(bridge.url) as bystander:
        got, code = _messages(raw, frame(TEXT, PING_TEXT) * 1_500)
        assert code == 4429
        assert 1_000 < len(got) < 1_300
        bystander.authenticate(2)


class TestHandshake:
    @pytest.mark.parametrize(
        ("fields", "status"),
        [
            ((*HEAD, f"Sec-WebSocket-Key: {KEY}"), b"403"),
            ((*HEAD, f"Origin: {ORIGIN}"), b"400"),
            ((*HEAD, f"Origin: {ORIGIN}", "Sec-WebSocket-Key: short"), b"400"),
            (("Connection: Upgrade", f"Origin: {ORIGIN}", f"Sec-WebSocket-Key: {KEY}"), b"426"),
            (
                (
                    *HEAD[:2],
                    "Sec-WebSocket-Version: 8",
                    f"Sec-WebSocket-Key: {KEY}",
                    f"Origin: {ORIGIN}",
                ),
                b"400",
            ),
            ((f"Origin: {ORIGIN}",), b"426"),
        ],
    )
    def test_what_is_missing(self, bridge: Bridge, fields: tuple[str, ...], status: bytes) -> None:
        with RawSocket(bridge.port) as raw:
            assert raw.request("Host: x", *fields).split()[1] == status

    @pytest.mark.parametrize(
        "line", ["POST / HTTP/1.1", "GET / HTTP/1.0", "nonsense", "\x16\x03\x01", "x" * 100_000]
    )
    def test_what_is_no_handshake_is_closed(self, bridge: Bridge, line: str) -> None:
        with RawSocket(bridge.port) as raw:
            raw.send(line.encode() + b"\r\n\r\n")
            assert not raw.read_to_the_end().startswith(b"HTTP/1.1 101")
        assert bridge.health() == (200, "ready\n")


def test_a_fuzz_of_mutated_frames_crashes_nothing(
    bridge: Bridge, caplog: pytest.LogCaptureFixture
) -> None:
    """10,000 good frames with some bytes changed, dropped, doubled or cut off; FUZZ=100000 for
    more."""
    chance = random.Random(6455)
    caplog.set_level(logging.DEBUG)
    good = [_some_frame(chance) for _ in range(200)]
    sent = 0
    with bridge.browser(9) as bystander:
        while sent < FRAMES:
            sent += _fuzz_one_socket(bridge, chance, good)
        bystander.send({"type": "ping"})
        bystander.expect("pong")
    assert bridge.health() == (200, "ready\n")
    errors = [record for record in caplog.records if record.levelno > logging.WARNING]
    assert not errors
    assert "Traceback" not in caplog.text


def _some_frame(chance: random.Random) -> bytes:
    room = uuid.UUID(int=chance.getrandbits(128), version=4)
    texts = (
        PING_TEXT,
        b'{"type":"subscribe","room_id":"%b"}' % str(room).encode(),
        b'{"type":"subscribe","room_id":"%b","since":{"epoch":"0f","offset":7}}'
        % str(room).encode(),
        b'{"type":"unsubscribe","room_id":"%b"}' % str(room).encode(),
        b'{"type":"authenticate","ticket":"x.y.z"}',
    )
    opcode = chance.choice([TEXT, TEXT, TEXT, PING, PONG, CONTINUATION])
    return frame(opcode, chance.choice(texts), mask=chance.randbytes(4))


def _mutated(chance: random.Random, data: bytes) -> bytes:
    mutated = bytearray(data)
    for _ in range(chance.choice([0, 0, 1, 1, 2, 5])):
        place = chance.randrange(len(mutated))
        match chance.randrange(4):
            case 0:
                mutated[place] = chance.randrange(256)
            case 1:
                mutated[place] ^= 1 << chance.randrange(8)
            case 2:
                del mutated[place]
            case _:
                mutated[place:place] = mutated[place : place + 8]
        if not mutated:
            break
    return bytes(mutated)


def _fuzz_one_socket(bridge: Bridge, chance: random.Random, good: list[bytes]) -> int:
    """Sends frames until the bridge has had enough, or 100."""
    with RawSocket(bridge.port) as raw:
        raw.shake_hands(ORIGIN)
        ticket = chat.ticket(1, []).encode()
        raw.send(frame(TEXT, b'{"type":"authenticate","ticket":"%b"}' % ticket))
        frames = [_mutated(chance, chance.choice(good)) for _ in range(100)]
        with suppress(BrokenPipeError, ConnectionResetError):  # closed before it read all
            raw.send(b"".join(frames))
    return len(frames)
