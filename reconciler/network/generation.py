"""The kernel's count of changes of nftables rules since the boot, whoever made them.

Rules that were read are still the same as long as the number is.
"""

from __future__ import annotations

import socket
import struct
from contextlib import suppress

_HEADER = struct.Struct("=IHHIIBBH")
"""Of a message: length, type, flags, sequence, port (netlink(7)); family, version, resource
(struct nfgenmsg, linux/netfilter/nfnetlink.h)."""
_ATTRIBUTE = struct.Struct("=HH")
"""Length and type (netlink(7), struct nlattr)."""
_NETFILTER = 12
_NEW, _GET = (10 << 8) | 15, (10 << 8) | 16
"""NFT_MSG_NEWGEN and NFT_MSG_GETGEN of NFNL_SUBSYS_NFTABLES (linux/netfilter/nf_tables.h)."""
_REQUEST = 1
_ID = 1
"""NFTA_GEN_ID: 32 bits, the highest first."""


def generation() -> int | None:
    """The number; None if the kernel doesn't tell it."""
    request = _HEADER.pack(_HEADER.size, _GET, _REQUEST, 0, 0, 0, 0, 0)
    with (
        suppress(OSError, struct.error),
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETFILTER) as kernel,
    ):
        kernel.settimeout(5)
        kernel.sendto(request, (0, 0))
        return parse(kernel.recv(4096))
    return None


def parse(answer: bytes) -> int | None:
    """The number in the kernel's answer. Pure. struct.error if it is cut off."""
    length, kind, *_ = _HEADER.unpack_from(answer)
    at = _HEADER.size
    while kind == _NEW and at + _ATTRIBUTE.size <= length:
        size, name = _ATTRIBUTE.unpack_from(answer, at)
        if name == _ID:
            (found,) = struct.unpack_from("!I", answer, at + _ATTRIBUTE.size)
            return int(found)
        at += max(_ATTRIBUTE.size, (size + 3) & ~3)
    return None
