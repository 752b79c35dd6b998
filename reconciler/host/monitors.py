"""Finds the processes of running containers: lxc-start, and its child, the container's init."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from reconciler.host import places
from state import bus


def monitors(users: Collection[str]) -> dict[str, str]:
    """The process id of lxc-start by user; `0` of a container that doesn't run."""
    found = bus.of_units(map(places.container_unit, users), {"MainPID": "Service"})
    return {user: str(each["MainPID"]) for user, each in zip(users, found, strict=True)}


def children(monitor: str) -> list[str]:
    """The process ids of that lxc-start's children, as the server sees them: the init (proc(5)).

    Empty if the container doesn't run, or reboots just now.
    """
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{monitor}/task/{monitor}/children").read_text().split()
    return []
