"""Whether anything listens at a port in a container, as the kernel says (sock_diag(7)).

It is looked at before anything is sent there: what is sent before somebody can answer, by ARP or
TCP, is sent again a whole second later. /proc/PID/net/tcp says it, too, but the kernel goes through
the connections of the whole machine for each reading.

A netlink socket belongs to the network namespace in which it was made. A thread makes it, which
alone enters the container's network, and nothing else of the container's. It runs nothing there,
never comes back, and ends. (setns(2), network_namespaces(7), linux/inet_diag.h.)
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
from pathlib import Path
from threading import Thread

from reconciler.host.monitors import children

PROC = Path("/proc")
PATIENCE = 5.0
"""Seconds that the kernel may take to answer."""
_CLONE_NEWNET = 0x40000000
_SOCK_DIAG = 4
"""NETLINK_SOCK_DIAG."""
_HEADER = struct.Struct("=IHHII")
"""Of a message: length, type, flags, sequence, port (netlink(7))."""
_NUMBER = struct.Struct("=i")
_ERROR, _DONE, _BY_FAMILY = 2, 3, 20
"""The last one is SOCK_DIAG_BY_FAMILY."""
_REQUEST, _DUMP = 1, 0x300
_LISTENS = 1 << 10
"""The bit of TCP_LISTEN."""
_FAMILIES = (socket.AF_INET, socket.AF_INET6)
_ANY = bytes(44)
"""The rest of struct inet_diag_sockid: any addresses, any interface, no cookie."""
_LONGEST = 1 << 16
"""Bytes: the kernel sends less at once. The first socket suffices, so no more is read."""


class Listening:
    """Asks the kernel about one container, as often as it is called."""

    def __init__(self, monitor: str, port: int) -> None:
        """`monitor`: the process id of its lxc-start."""
        self._monitor, self._port = monitor, port
        self._network = Path()
        self._kernel: socket.socket | None = None

    def __call__(self) -> bool:
        """Whether anything listens at the port; not, if the container is just beginning.

        Also True where the kernel can't be asked: then only whoever listens can say so.
        """
        try:
            namespace = PROC / children(self._monitor)[0] / "ns/net"
            network = namespace.readlink()
            if network == (PROC / "self/ns/net").readlink():
                return False
            if self._kernel is None or network != self._network:
                self.close()
                self._kernel, self._network = _asks_in(namespace), network
            found = any(_one_listens(self._kernel, family, self._port) for family in _FAMILIES)
        except (FileNotFoundError, ProcessLookupError, IndexError):  # not begun, or ended
            return False
        except (OSError, struct.error):
            found = True
        if found:
            self.close()  # with it goes what else the kernel had to say
        return found

    def close(self) -> None:
        """Ask no more, or by another socket."""
        if self._kernel is not None:
            self._kernel.close()
            self._kernel = None


def _asks_in(namespace: Path) -> socket.socket:
    """A socket that asks about that network. OSError if there can't be."""
    descriptor = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
    made = list[socket.socket | OSError]()

    def make() -> None:
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.setns(descriptor, _CLONE_NEWNET) != 0:  # os.setns is Python 3.12's
                raise OSError(ctypes.get_errno(), "setns")
            made.append(socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _SOCK_DIAG))
        except OSError as error:
            made.append(error)

    try:
        thread = Thread(target=make)
        thread.start()
        thread.join()
    finally:
        os.close(descriptor)
    (found,) = made
    if isinstance(found, OSError):
        raise found
    found.settimeout(PATIENCE)
    return found


def _one_listens(kernel: socket.socket, family: int, port: int) -> bool:
    kernel.sendto(request(family, port), (0, 0))
    return is_one(kernel.recv(_LONGEST))


def request(family: int, port: int) -> bytes:
    """Asks for all TCP sockets that listen at a port (struct inet_diag_req_v2). Pure."""
    wanted = struct.pack("=BBBxI", family, socket.IPPROTO_TCP, 0, _LISTENS)
    body = wanted + struct.pack("!HH", port, 0) + _ANY
    return _HEADER.pack(_HEADER.size + len(body), _BY_FAMILY, _REQUEST | _DUMP, 0, 0) + body


def is_one(answer: bytes) -> bool:
    """Whether the kernel's answer begins with a socket. OSError if it is an error. Pure.

    struct.error if it is cut off. A kernel without IPv6 doesn't know that family.
    """
    _, kind, *_ = _HEADER.unpack_from(answer)
    if kind == _BY_FAMILY:
        return True
    (status,) = _NUMBER.unpack_from(answer, _HEADER.size)
    if kind not in (_DONE, _ERROR) or status:
        raise OSError(-status, f"the kernel answers {kind}")
    return False
