"""Waits until a container's sshd says what it is: the banner of RFC 4253, section 4.2."""

from __future__ import annotations

import socket
import time
from contextlib import suppress

from reconciler.host import places
from reconciler.host.monitors import children, monitors
from reconciler.kinds.traffic.port_map import SSH
from reconciler.mounts.tree import Tree
from reconciler.network.listening import may_listen
from reconciler.plan import Tell
from reconciler.requests.unit import ended, power_of
from reconciler.systems import way_in
from state.errors import LxcGpuError, Remedy
from state.view import Resident, View
from state.wire.messages import Progress

SOON = 5.0
"""Seconds after which it is checked whether there is an sshd at all, and sshd is asked even if
nothing is seen to listen: the container may lead its port elsewhere."""
BETWEEN = 0.01
"""Seconds from one look for it to the next."""


def wait_for(
    view: View,
    user: str,
    resident: Resident,
    notes: tuple[str, ...],
    tell: Tell,
    patience: float,
) -> None:
    """Wait until it comes, for `patience` seconds. `notes`: what may be why not.

    LxcGpuError if it can't come, or doesn't in that time.
    """
    started = told = time.monotonic()
    monitor = monitors([user])[user]
    late = False
    while not ((late or may_listen(monitor)) and came(ask_for(resident.address))):
        now = time.monotonic()
        if now - started > patience or not (children(monitor) or power_of(user).running):
            raise _no_answer(view, user, now - started, notes)
        if now - started > SOON and not late:
            late = True
            if not way_in.has_sshd(Tree.of(view, user, resident)):
                raise _no_sshd(view)
        if now - told > 1:
            told = now
            tell(Progress("waiting for the container's sshd", (now - started) / patience))
        time.sleep(BETWEEN)


def ask_for(address: str) -> socket.socket:
    """A connection on which the container's sshd says what it is; nothing is waited for yet."""
    connection = socket.socket()
    connection.setblocking(False)
    connection.connect_ex((address, SSH))
    return connection


def came(connection: socket.socket) -> bool:
    """Whether it comes within a second; closes the connection."""
    with connection, suppress(OSError):
        connection.settimeout(1)
        return connection.recv(4) == b"SSH-"
    return False


def _no_sshd(view: View) -> LxcGpuError:
    return LxcGpuError(
        "no-sshd",
        "The container runs, but there is no sshd in it any more, so nobody can log in.",
        f"`ssh {view.server}-manage shell 'apt-get install -y openssh-server'` brings it back; "
        "else `recover`, or `rebuild --keep-home`.",
    )


def _no_answer(view: View, user: str, seconds: float, notes: tuple[str, ...]) -> LxcGpuError:
    power = power_of(user)
    if not power.running:
        return ended(places.container_unit(user))
    return LxcGpuError(
        "sshd-silent",
        "\n".join(
            [f"The container runs, but its sshd did not answer within {seconds:.0f} s.", *notes]
        ),
        f"Try `restart`. Look inside: `ssh -t {view.server}-manage shell`, then `systemctl status "
        "ssh`. Else `recover`, or `rebuild --keep-home`.",
        Remedy.RETRY,
    )
