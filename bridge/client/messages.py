"""Puts a message together from its WebSocket frames, and bounds its size."""

from __future__ import annotations

from websockets.frames import Frame, Opcode

from bridge.protocol import MAX_FRAME_BYTES, Close, SocketRefused


class MessageAssembler:
    """The fragments of one socket's current message (RFC 6455 section 5.4)."""

    __slots__ = ("_fragments",)

    def __init__(self) -> None:
        # None between messages.
        self._fragments: bytearray | None = None

    def clear(self) -> None:
        self._fragments = None

    def add(self, frame: Frame) -> str | None:
        """The message that ``frame`` completes, or None. Raises SocketRefused when the message is
        binary, not UTF-8, or longer than MAX_FRAME_BYTES."""
        if frame.opcode is Opcode.BINARY:
            raise SocketRefused(
                Close.BAD_FRAME, "a binary frame; accepted are text frames with JSON"
            )
        if frame.opcode is not Opcode.TEXT and frame.opcode is not Opcode.CONT:
            return None
        data = frame.data
        if self._fragments is not None or not frame.fin:
            self._fragments = self._fragments or bytearray()
            self._fragments += data
            data = self._fragments
        if len(data) > MAX_FRAME_BYTES:
            raise SocketRefused(Close.TOO_LARGE, f"accepted are at most {MAX_FRAME_BYTES} bytes")
        if not frame.fin:
            return None
        self._fragments = None
        try:
            return str(data, "utf-8")
        except UnicodeDecodeError as error:
            raise SocketRefused(Close.NO_UTF8, f"no UTF-8 at byte {error.start}") from error
