"""Shortens what a login waits for: the root helper begins while the program that asks is loaded.

This runs first at each login, so it loads only what is built into Python.
"""

from __future__ import annotations

import os
import sys
from _socket import AF_UNIX, SOCK_STREAM, socket  # without selectors

ROOT_SOCKET = "/run/lxc-gpu/root.sock"
FORCED = "lxc-gpu"
"""What ForceCommand in setup/sshd/lxc-gpu.conf says: no request, look at SSH_ORIGINAL_COMMAND."""
OFTEN = ("start", "status", "gpus", "port", "reservations", "shell")
"""Verbs whose answers people wait for; no word is a start, too."""
_connected = list[socket]()


def typed(argv: list[str]) -> str:
    """What was typed behind the account's name; `argv`: the words that a login shell is given."""
    given = argv[1] if len(argv) > 1 and argv[0] == "-c" else ""
    return os.environ.get("SSH_ORIGINAL_COMMAND", "") if given in ("", FORCED) else given


def connect_ahead(argv: list[str]) -> None:
    """Connect, if the helper will be asked; where that fails, who asks it says why."""
    words = typed(argv).split(maxsplit=1)
    if words and words[0] not in OFTEN:
        return
    connection = socket(AF_UNIX, SOCK_STREAM)
    try:
        connection.connect(ROOT_SOCKET)
    except OSError:
        return
    _connected.append(connection)


def connected() -> int | None:
    """The descriptor of the connection, for whoever asks first; None if there is none."""
    return _connected.pop().detach() if _connected else None


def leave(status: int) -> None:
    """End this program now: Python would first take apart what it has loaded."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    finally:  # whether anybody hears it or not
        os._exit(status)
