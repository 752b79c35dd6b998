"""Says no in the sftp protocol: sshd lets nothing else through to the person (no stderr there).

draft-ietf-secsh-filexfer-02, which OpenSSH speaks: packets of a length, a type and a body. Every
request is answered by a failure with our text; sftp shows the text, scp at least that it is not
allowed.
"""

from __future__ import annotations

import struct
from typing import BinaryIO

INIT, VERSION, STATUS = 1, 2, 101
PERMISSION_DENIED = 3
LONGEST_PACKET = 1 << 18
"""Bytes; a longer packet isn't a request, and ends the conversation."""


def refuse(requests: BinaryIO, answers: BinaryIO, text: str) -> None:
    """Answer every request with `text`, until the other side hangs up."""
    while packet := _packet(requests):
        kind, body = packet[0], packet[1:]
        if kind == INIT:
            answer = struct.pack(">BI", VERSION, 3)
        else:
            code = struct.pack(">I", PERMISSION_DENIED)
            answer = bytes([STATUS]) + body[:4] + code + _string(text) + _string("en")
        answers.write(struct.pack(">I", len(answer)) + answer)
        answers.flush()


def _packet(requests: BinaryIO) -> bytes:
    """The next packet without its length; empty at the end, and for what is none."""
    head = requests.read(4)
    length = int.from_bytes(head) if len(head) == 4 else 0
    if not 5 <= length <= LONGEST_PACKET:
        return b""
    packet = requests.read(length)
    return packet if len(packet) == length else b""


def _string(text: str) -> bytes:
    raw = text.encode()
    return struct.pack(">I", len(raw)) + raw
