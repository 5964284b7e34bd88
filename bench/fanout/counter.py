"""A number that one process writes and another reads, in a file that both have mapped."""

from __future__ import annotations

import mmap
import os
import struct

SIZE = 8


class Counter:
    def __init__(self, path: str) -> None:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        os.ftruncate(descriptor, SIZE)
        self._map = mmap.mmap(descriptor, SIZE)
        os.close(descriptor)

    @property
    def value(self) -> int:
        number: int = struct.unpack("<q", self._map[:SIZE])[0]
        return number

    @value.setter
    def value(self, value: int) -> None:
        self._map[:SIZE] = struct.pack("<q", value)
