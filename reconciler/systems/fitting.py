"""Adapts an unpacked system to its container, and refuses what isn't a system.

The system comes from its user, or from anybody who made the archive: it is hostile. Everything is
read and written as its root (`reconciler.children.hostile`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import PurePosixPath

from reconciler.children import hostile
from reconciler.children.hostile import HostileError
from reconciler.container import home_files
from reconciler.container.home_files import UID
from reconciler.container.lxc_config import hostname
from reconciler.mounts.tree import Tree
from reconciler.systems.way_in import mend
from state.errors import LxcGpuError
from state.view import Resident, View

NEEDED: Mapping[str, str] = {
    "an init program": "sbin/init",
    "an sshd": "usr/sbin/sshd",
    "a list of accounts": "etc/passwd",
}
"""Files without which nobody could log in."""
_HOSTNAME, _MACHINE_ID, _HOSTS = (
    PurePosixPath("etc") / name for name in ("hostname", "machine-id", "hosts")
)
_ONE_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,62}[A-Za-z0-9])?", re.ASCII)
_ONE_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)


def check_system(tree: Tree, what: str) -> None:
    """LxcGpuError unless `tree` looks like a system that can start and let people in."""

    def work(descriptor: int) -> list[str]:
        return [
            words
            for words, path in NEEDED.items()
            if not hostile.is_file_inside(descriptor, PurePosixPath(path))
        ]

    missing = hostile.as_owner(tree, tree.first, work)
    if missing:
        raise LxcGpuError(
            "no-system",
            f"{what[:1].upper()}{what[1:]} holds no system that could start: it lacks "
            f"{' and '.join(missing)}.",
            "Nothing was changed.",
        )


def fit(view: View, user: str, resident: Resident, current: Tree, tree: Tree) -> tuple[str, ...]:
    """Give the system `tree` the names of the `current` one, and our files. Returns notes.

    Host name and machine id belong to the container, wherever and whenever the system was packed.
    """
    names = hostile.as_owner(current, current.first, _names)
    name = names["name"] or hostname(view, user)
    ident = names["ident"] or os.urandom(16).hex()

    def work(descriptor: int) -> bool:
        before = _names(descriptor)["name"]
        hosts = hostile.read_below(descriptor, _HOSTS)
        put = {_HOSTNAME: (f"{name}\n", 0o644), _MACHINE_ID: (f"{ident}\n", 0o444)}
        if before and hosts is not None and before != name:
            word = rf"(?<![\w.-]){re.escape(before)}(?![\w.-])"
            put[_HOSTS] = (re.sub(word, name, hosts), 0o644)
        for path, (text, mode) in put.items():
            hostile.write_below(descriptor, path, text, mode, folder_mode=0o755)
        passwd = hostile.read_below(descriptor, PurePosixPath("etc/passwd")) or ""
        return any(line.startswith(f"{user}:x:{UID}:") for line in passwd.splitlines())

    notes = []
    if not hostile.as_owner(tree, tree.first, work):
        notes.append(
            f"There is no account {user} with the uid {UID} in this system, so ssh lets nobody in."
        )
    notes += mend(view, user, resident, tree)
    try:
        ours = home_files.desired_files(view, user, resident)
        home_files.write(tree, user, ours)
    except HostileError as error:
        notes.append(f"Your keys could not be put in place. {error.message}")
    return tuple(notes)


def _names(descriptor: int) -> dict[str, str]:
    """Host name and machine id of a system; empty if missing or malformed."""
    found = {}
    for key, path, pattern in (("name", _HOSTNAME, _ONE_NAME), ("ident", _MACHINE_ID, _ONE_ID)):
        try:
            text = (hostile.read_below(descriptor, path) or "").strip()
        except (HostileError, OSError):
            text = ""
        found[key] = text if pattern.fullmatch(text) else ""
    return found
