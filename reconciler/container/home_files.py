"""Our files in the home of a container's user: keys, and how to reach the other servers.

The home is the user's: our lines in `authorized_keys` and `config` are in a marked block, and all
other lines stay. If a mount covers the home, the files are written there as well: the container
reads that copy, or the other one when it had to start without the mount.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from reconciler.children import hostile
from reconciler.container.marked_block import read_block, with_block
from reconciler.mounts import sources as mounts
from reconciler.mounts.tree import Tree
from state.ssh_files import CONFIG, KNOWN_HOSTS, known_hosts, ssh_config
from state.view import Resident, View

UID = 1000
"""The user's uid and gid as seen in the container."""
BLOCKS = ("authorized_keys", "config")
"""Files in ~/.ssh that we share with the user; our other files there are ours as a whole."""
WHOLE = (CONFIG, KNOWN_HOSTS)


def desired_files(view: View, user: str, resident: Resident) -> dict[str, str]:
    """The content, by name in ~/.ssh, of our blocks and our files."""
    server_keys = {name: server.host_key for name, server in view.servers.items()}
    return {
        "authorized_keys": "".join(f"{key}\n" for key in resident.keys),
        "config": f"Include {CONFIG}\n",
        CONFIG: ssh_config(user, view.account_of(user), resident.port, view.servers),
        KNOWN_HOSTS: known_hosts(resident.port, view.servers, server_keys, resident.containers),
    }


def read(tree: Tree, user: str) -> dict[str, str]:
    """The files as they are; missing ones are left out. HostileError if one can't be read."""
    return _read(tree, folder(user), tree.first + UID)


def write(tree: Tree, user: str, files: dict[str, str]) -> None:
    """Put `files` in place as the user. HostileError if something is in the way."""
    _write(tree, folder(user), tree.first + UID, files)


def mounted_home(view: View, user: str) -> tuple[str, Path, PurePosixPath] | None:
    """The mount that covers ~/.ssh: its source, the folder that is mounted, the path to .ssh.

    None if no mount does. Only the user's own folders may cover it
    (`state.reading.check_resources`).
    """
    keys = PurePosixPath("/") / folder(user)
    found = None
    for mount in view.mounts_of(user):  # outer ones first: the last that covers it is what counts
        if mount.access == "own" and keys.is_relative_to(mount.target):
            way = keys.relative_to(mount.target)
            found = (mount.source, mounts.bind_source(mount, user), way)
    return found


def read_mounted(view: View, user: str, resident: Resident) -> dict[str, str]:
    """The files in the mount that covers the home; the source has to be usable."""
    home = mounted_home(view, user)
    return {} if home is None else _read(home[1], home[2], resident.subid + UID)


def write_mounted(view: View, user: str, resident: Resident, files: dict[str, str]) -> None:
    """Write `files` into the mount that covers the home; the source has to be usable."""
    home = mounted_home(view, user)
    if home is not None:
        _write(home[1], home[2], resident.subid + UID, files)


def _read(root: hostile.Folder, way: PurePosixPath, owner: int) -> dict[str, str]:
    def work(descriptor: int) -> dict[str, str]:
        found = {name: hostile.read_below(descriptor, way / name) for name in BLOCKS + WHOLE}
        ours = {
            name: read_block(text) if name in BLOCKS else text
            for name, text in found.items()
            if text is not None
        }
        return {name: text for name, text in ours.items() if text is not None}

    found: dict[str, str] = hostile.as_owner(root, owner, work)
    return found


def _write(root: hostile.Folder, way: PurePosixPath, owner: int, files: dict[str, str]) -> None:
    def work(descriptor: int) -> None:
        for name, content in files.items():
            text = content
            if name in BLOCKS:
                there = hostile.read_below(descriptor, way / name) or ""
                text = with_block(there, content, first=name == "config")
            hostile.write_below(descriptor, way / name, text, 0o600, folder_mode=0o700)

    hostile.as_owner(root, owner, work)


def folder(user: str) -> PurePosixPath:
    """The folder of our files, below the container's root."""
    return PurePosixPath("home") / user / ".ssh"
