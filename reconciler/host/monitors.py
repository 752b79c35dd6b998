"""Containers that run, as processes: lxc-start, which systemd knows, and its child, the init."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from reconciler.host import places
from state import command


def monitors(users: Collection[str]) -> dict[str, str]:
    """By user, the process id of lxc-start; 0 of a container that doesn't run (systemctl(1))."""
    if not users:
        return {}
    units = [places.container_unit(user) for user in users]
    shown = command.run(["systemctl", "show", "--property=MainPID", "--value", *units]).stdout
    return dict(zip(users, shown.split(), strict=True))


def children(monitor: str) -> list[str]:
    """The process ids below that lxc-start, on this side: of the container's init (proc(5)).

    None if it doesn't run, or is between two at a `reboot` inside.
    """
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{monitor}/task/{monitor}/children").read_text().split()
    return []
