"""Plays the socket over which systemd is asked, for tests of what asks it."""

from __future__ import annotations

import socket
import sys
from collections.abc import Mapping
from pathlib import Path

from state.bus import Variant, packed, unpacked
from tests.unit.played_socket import PlayedSocket

HEADER = "yyyyuua(yv)"


def reply(number: int, kind: int, kinds: str, *values: object, member: str = "") -> bytes:
    """A message that answers call `number`: a return (2), an error (3), a signal (4, `member`)."""
    body = packed(kinds, values)
    fields = [(5, Variant("u", number)), (8, Variant("g", kinds)), (4, Variant("s", "org.x.No"))]
    fields += [(3, Variant("s", member))] if member else []
    order = b"l" if packed("u", [1])[0] else b"B"
    head = packed(HEADER, (order[0], kind, 0, 1, len(body), 9, fields))
    return head + bytes(-len(head) % 8) + body


class PlayedSystemd(PlayedSocket):
    """Says of every unit that its properties are these."""

    def __init__(self, place: Path, properties: Mapping[str, Variant]) -> None:
        self._properties = properties
        super().__init__(place)

    def answer(self, connection: socket.socket) -> None:
        """Let it in, and answer the calls that come in one message."""
        connection.recv(1 << 16)
        connection.sendall(b"DATA\r\nOK 1234\r\n")
        raw = connection.recv(1 << 16)
        while raw:
            _, _, _, _, length, number, _ = unpacked(HEADER, raw)
            begin = -(-(16 + int.from_bytes(raw[12:16], sys.byteorder)) // 8) * 8
            _, name = unpacked("ss", raw[begin:])
            connection.sendall(reply(number, 2, "v", self._properties[name]))
            raw = raw[begin + length :]
