"""Has a request done by the root helper that is loaded already (`shells.helper.loaded`).

This runs first at each request, so it loads only what is built into Python. If that helper can't be
reached, or is of another release, it does nothing, and the request is done here.
"""

from __future__ import annotations

import sys
from _socket import AF_UNIX, SCM_RIGHTS, SOCK_SEQPACKET, SOL_SOCKET, socket  # without selectors

SOCKET = "/run/lxc-gpu/loaded.sock"
PATIENCE = 2.0
"""Seconds that it may take to be ready: usually it is at once."""
READY, GO, BEGUN = b"ready", b"go", b"begun"
_STANDARD = (0, 1, 2)


def handed_over(release: str, unit: str = "") -> int | None:
    """The exit status of the request on stdin; None if nothing was begun, nor will be.

    `release` is the folder of the code that may do it, `unit` the one that this runs in: an
    earlier release's unit, which is there while an upgrade is under way, doesn't say so.
    """
    if not unit:
        return None
    channel = socket(AF_UNIX, SOCK_SEQPACKET)
    channel.settimeout(PATIENCE)
    descriptors = b"".join(each.to_bytes(4, sys.byteorder) for each in _STANDARD)
    try:
        channel.connect(SOCKET)
        message = f"{release}\n{unit}".encode()
        channel.sendmsg([message], [(SOL_SOCKET, SCM_RIGHTS, descriptors)])
        if channel.recv(len(READY)) != READY:
            return None
        channel.settimeout(None)
        channel.send(GO)  # only now it may begin: whoever gave up has said nothing
        if channel.recv(len(BEGUN)) != BEGUN:
            return None  # it had given up before it heard that
    except OSError:
        return None
    try:
        return (channel.recv(1) or b"\1")[0]
    except OSError:
        return 1
