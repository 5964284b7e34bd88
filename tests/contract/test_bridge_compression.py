"""permessage-deflate between a bridge that agrees to it, and browsers that offer it or do not."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.extensions.permessage_deflate import (
    ClientPerMessageDeflateFactory,
    PerMessageDeflate,
)
from websockets.frames import Frame, Opcode

from bridge.client.compression import deflated
from bridge.protocol import Encoded, Pong, encode, encode_subscribed
from bus.rooms.log_writer import RoomLogWriter
from bus.rooms.model import Entry, Position
from tests.contract import chat
from tests.contract.chat import Bridge, Browser, bodies, posted

ALICE, BOB, CAROL, DAVE = 1, 2, 3, 4
WINDOW = 12
# What Chromium and Firefox offer.
USUAL = ClientPerMessageDeflateFactory(client_max_window_bits=True)
SMALL = ClientPerMessageDeflateFactory(server_max_window_bits=9)
AGREED = (
    "permessage-deflate; server_no_context_takeover; client_no_context_takeover; "
    f"server_max_window_bits={WINDOW}; client_max_window_bits={WINDOW}"
)
TEXT = "The quick brown fox jumps over the lazy dog, and the lazy dog sleeps. " * 3


@pytest.fixture(scope="module")
def writer(redis_url: str) -> Iterator[RoomLogWriter]:
    writer = RoomLogWriter.connect(redis_url)
    yield writer
    writer.close()


@pytest.fixture(scope="module")
def bridge(redis_url: str) -> Iterator[Bridge]:
    with Bridge(chat.settings(redis_url, compression=WINDOW)) as bridge:
        yield bridge


def agreed(browser: Browser) -> str | None:
    assert browser.socket.response
    return browser.socket.response.headers.get("Sec-WebSocket-Extensions")


def test_all_get_the_same_and_it_is_compressed_once(
    bridge: Bridge, writer: RoomLogWriter, room_id: uuid.UUID
) -> None:
    offers = [(ALICE, [USUAL]), (BOB, [USUAL]), (CAROL, [SMALL]), (DAVE, [])]
    texts = [f"{number} {TEXT}" for number in range(20)]
    with ExitStack() as stack:
        browsers = []
        for user_id, offer in offers:
            browser = stack.enter_context(Browser(bridge.url, extensions=offer))
            browser.authenticate(user_id, room_id)
            browser.subscribe(room_id)
            browsers.append(browser)
        assert agreed(browsers[0]) == agreed(browsers[1]) == AGREED
        assert "server_max_window_bits=9" in str(agreed(browsers[2]))
        assert agreed(browsers[3]) is None
        before = deflated.cache_info()
        for text in texts:
            writer.append([posted(room_id, text)])
            assert [browser.bodies(1) for browser in browsers] == [[text]] * len(offers)
        after = deflated.cache_info()
        assert after.hits - before.hits >= len(texts), "for BOB it is done already"
        with Browser(bridge.url, extensions=[USUAL]) as late:
            late.authenticate(ALICE, room_id)
            assert bodies(late.subscribe(room_id)["events"]) == texts


@pytest.mark.parametrize(("size", "code"), [(60_000, 4400), (100_000, 4413), (10_000_000, 1009)])
def test_what_a_browser_compresses_is_bounded_by_its_real_size(
    bridge: Bridge, size: int, code: int
) -> None:
    with Browser(bridge.url, extensions=[USUAL]) as browser:
        browser.send(json.dumps({"type": "ping"}))
        with suppress(ConnectionClosed):  # on account of the first frame
            browser.send(" " * size)
        assert browser.close_code()[0] in (4401, code)
    with Browser(bridge.url, extensions=[USUAL]) as browser:
        browser.authenticate(ALICE)
        browser.send(" " * size)
        assert browser.close_code()[0] == code


def test_without_the_setting_nothing_is_compressed(redis_url: str) -> None:
    with (
        Bridge(chat.settings(redis_url)) as bridge,
        Browser(bridge.url, extensions=[USUAL]) as browser,
    ):
        assert agreed(browser) is None
        browser.authenticate(ALICE)


def test_frames_of_every_length() -> None:
    room_id = uuid.uuid4()
    messages = [encode(Pong())]
    for length in (1, 100, 1_000, 100_000):
        entry = Entry(1, json.dumps({"body": "ab" * length}).encode())
        messages.append(encode_subscribed(room_id, Position("e", 1), [entry], recovered=False))
    for bits in (9, WINDOW, 15):
        data = deflated(Encoded(b"".join(messages)), bits)
        assert len(data) < sum(map(len, messages)) / 50
        assert [*_inflated(data, bits)] == [*_inflated(b"".join(messages), bits)]


def _inflated(data: bytes, bits: int) -> Iterator[bytes]:
    extension = PerMessageDeflate(True, True, bits, bits)
    while data:
        length, start = data[1], 2
        if length > 125:
            start = 4 if length == 126 else 10
            length = int.from_bytes(data[2:start])
        payload = data[start : start + length]
        frame = Frame(Opcode.TEXT, payload, rsv1=bool(data[0] & 0x40))
        yield bytes(extension.decode(frame).data)
        data = data[start + length :]
