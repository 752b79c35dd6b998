"""Asks the kernel about network interfaces without a program: each start waits for it.

Sources: netlink(7), rtnetlink(7).
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterator
from ipaddress import IPv4Interface
from typing import TypeVar

from state.errors import LxcGpuError

T = TypeVar("T")
LINKS, ADDRESSES = 18, 22
"""What can be asked for: RTM_GETLINK, RTM_GETADDR."""
_HEADER = struct.Struct("=IHHII")
"""Of a message: length, type, flags, sequence, port (netlink(7))."""
_ATTRIBUTE = struct.Struct("=HH")
"""Length and type (netlink(7), struct nlattr)."""
_ADDRESS = struct.Struct("=BBBBI")
"""struct ifaddrmsg: family, length of the prefix, flags, scope, interface."""
_LOCAL = 2
"""IFA_LOCAL."""
_DONE = 3
_NEW_BEFORE_GET = 2
"""An answer has the type of its question less that."""
_REQUEST, _DUMP, _INTERRUPTED = 1, 0x300, 0x10
_TRIES = 10
"""How often the kernel is asked while interfaces come and go."""


def asked(kind: int, body: bytes, read: Callable[[bytes], T | None]) -> tuple[T, ...]:
    """What `read` makes of each of the kernel's answers, after their headers, but None.

    LxcGpuError if the kernel can't be asked.
    """
    try:
        for _ in range(_TRIES):
            answers = tuple(_answers(kind, body))
            if None not in answers:
                found = (read(answer) for answer in answers if answer is not None)
                return tuple(each for each in found if each is not None)
        raise OSError("interfaces come and go all the time")
    except (OSError, struct.error) as error:
        raise LxcGpuError(
            "system",
            "The kernel does not say which network interfaces there are.",
            "Sysadmin: `ip link` says whether it does at all.",
            details=repr(error),
        ) from error


def _answers(asked_for: int, body: bytes) -> Iterator[bytes | None]:
    """Each answer; None: something changed meanwhile."""
    head = _HEADER.pack(_HEADER.size + len(body), asked_for, _REQUEST | _DUMP, 0, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as kernel:
        kernel.settimeout(5)
        kernel.sendto(head + body, (0, 0))
        while True:
            raw, at = kernel.recv(1 << 20), 0
            while at < len(raw):
                length, kind, flags, _, _ = _HEADER.unpack_from(raw, at)
                if flags & _INTERRUPTED:
                    yield None
                if kind == _DONE:
                    return
                if kind != asked_for - _NEW_BEFORE_GET:
                    raise OSError(f"the kernel answers {kind}")
                yield raw[at + _HEADER.size : at + length]
                at += (length + 3) & ~3


def attribute(kind: int, value: bytes) -> bytes:
    """An attribute as bytes. Pure."""
    size = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(size, kind) + value + bytes(-size % 4)


def attributes(raw: bytes) -> dict[int, bytes]:
    """The attributes in bytes, by type. Pure."""
    found, at = dict[int, bytes](), 0
    while at + _ATTRIBUTE.size <= len(raw):
        size, kind = _ATTRIBUTE.unpack_from(raw, at)
        found[kind & 0x3FFF] = raw[at + _ATTRIBUTE.size : at + size]
        at += max(_ATTRIBUTE.size, (size + 3) & ~3)
    return found


def addresses(interface: str) -> tuple[IPv4Interface, ...]:
    """The IPv4 addresses of an interface, in the kernel's order.

    OSError if there is no such interface, LxcGpuError if the kernel can't be asked.
    """
    number = socket.if_nametoindex(interface)

    def read(answer: bytes) -> IPv4Interface | None:
        _, prefix, _, _, of = _ADDRESS.unpack_from(answer)
        local = attributes(answer[_ADDRESS.size :]).get(_LOCAL)
        return None if of != number or local is None else IPv4Interface((local, prefix))

    return asked(ADDRESSES, _ADDRESS.pack(socket.AF_INET, 0, 0, 0, 0), read)
