"""Containers with connections through the server's mapped ports, by the kernel's list.

It is read by ctnetlink (linux/netfilter/nfnetlink_conntrack.h), because not every kernel has
/proc/net/nf_conntrack. Needs CAP_NET_ADMIN.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Collection, Iterator
from ipaddress import IPv4Address

NETLINK_NETFILTER = 12
DUMP = (1 << 8) | 1
"""IPCTNL_MSG_CT_GET of NFNL_SUBSYS_CTNETLINK."""
REQUEST_DUMP = 0x1 | 0x300
"""NLM_F_REQUEST and NLM_F_DUMP."""
ERROR, DONE = 2, 3
"""NLMSG_ERROR and NLMSG_DONE."""
TUPLE_REPLY, STATUS, PROTOCOL_INFO = 2, 3, 4
ASSURED, TO_ANOTHER = 1 << 2, 1 << 5
"""IPS_ASSURED and IPS_DST_NAT of the status."""
TCP, ESTABLISHED = 6, 3
PATIENCE = 5.0
"""Seconds to wait for the kernel's answer."""
MOST = 500_000
"""Entries that are read at most; by default a server's table holds half as many."""


def connected_to(addresses: Collection[str]) -> frozenset[str]:
    """The containers' addresses that have established connections through mapped ports.

    OSError if the kernel doesn't give the whole list.
    """
    found, wanted = set(), {IPv4Address(address).packed for address in addresses}
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER) as kernel:
        kernel.settimeout(PATIENCE)
        kernel.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        kernel.bind((0, 0))
        header = struct.pack("=IHHII", 20, DUMP, REQUEST_DUMP, 1, 0)
        kernel.send(header + struct.pack("=BBH", socket.AF_INET, 0, 0))
        for number, entry in enumerate(_entries(kernel)):
            if number > MOST:
                raise OSError("more connections than are read")
            if (source := open_to(entry)) in wanted:
                found.add(source)
    return frozenset(str(IPv4Address(source)) for source in found)


def open_to(entry: bytes) -> bytes:
    """The address that answers in an entry's connection; empty if it isn't established. Pure.

    The connection counts if its destination was rewritten, and it is an established one of TCP, or
    of another protocol in which both sides have sent something.
    """
    fields = dict(_attributes(entry[4:]))
    status = int.from_bytes(fields.get(STATUS, b""), "big")
    reply = dict(_attributes(fields.get(TUPLE_REPLY, b"")))
    protocol = dict(_attributes(reply.get(2, b""))).get(1, b"")
    if not status & TO_ANOTHER:
        return b""
    if protocol == bytes([TCP]):
        tcp = dict(_attributes(fields.get(PROTOCOL_INFO, b""))).get(1, b"")
        stands = dict(_attributes(tcp)).get(1, b"") == bytes([ESTABLISHED])
    else:
        stands = bool(status & ASSURED)
    return dict(_attributes(reply.get(1, b""))).get(1, b"") if stands else b""


def _entries(kernel: socket.socket) -> Iterator[bytes]:
    """The payload of each message of a dump."""
    while True:
        raw = kernel.recv(1 << 20)
        while len(raw) >= 16:
            length, kind = struct.unpack_from("=IH", raw)
            if kind == DONE:
                return
            if kind == ERROR:
                (number,) = struct.unpack_from("=i", raw, 16)
                raise OSError(-number, "the kernel lists no connections")
            if length < 16:
                raise OSError("a message that is none")
            yield raw[16:length]
            raw = raw[(length + 3) & ~3 :]


def _attributes(raw: bytes) -> Iterator[tuple[int, bytes]]:
    """The attributes of a message (netlink(7)), by number."""
    while len(raw) >= 4:
        length, kind = struct.unpack_from("=HH", raw)
        if length < 4:
            return
        yield kind & 0x3FFF, raw[4:length]
        raw = raw[(length + 3) & ~3 :]
