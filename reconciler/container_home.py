"""What of ours stands in the home of a container's user: keys, and how to reach the other servers.

The home is the user's: our lines in `authorized_keys` and `config` stand in a marked block, and
what else the user put there stays.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from reconciler import hostile
from reconciler.marked_block import read_block, with_block
from state.ssh_files import CONFIG, KNOWN_HOSTS, known_hosts, ssh_config
from state.view import Resident, View

UID = 1000
"""The user's uid and gid as seen in the container."""
BLOCKS = ("authorized_keys", "config")
"""Files in ~/.ssh that we share with the user; the others there are ours as a whole."""
WHOLE = (CONFIG, KNOWN_HOSTS)


def desired_files(view: View, user: str, resident: Resident) -> dict[str, str]:
    """The content, by name in ~/.ssh, of our blocks and our files."""
    server_keys = {name: server.host_key for name, server in view.servers.items()}
    return {
        "authorized_keys": "".join(f"{key}\n" for key in resident.keys),
        "config": f"Include {CONFIG}\n",
        CONFIG: ssh_config(user, resident.port, view.servers),
        KNOWN_HOSTS: known_hosts(resident.port, view.servers, server_keys, resident.containers),
    }


def read(root: Path, user: str, resident_subid: int) -> dict[str, str]:
    """The same as they are; what isn't there is missing. HostileError if it can't be read."""
    folder = _folder(user)

    def work(descriptor: int) -> dict[str, str]:
        found = {name: hostile.read_below(descriptor, folder / name) for name in BLOCKS + WHOLE}
        ours = {
            name: read_block(text) if name in BLOCKS else text
            for name, text in found.items()
            if text is not None
        }
        return {name: text for name, text in ours.items() if text is not None}

    found: dict[str, str] = hostile.as_owner(root, resident_subid + UID, work)
    return found


def write(root: Path, user: str, resident_subid: int, files: dict[str, str]) -> None:
    """Put `files` in place as the user. HostileError if something is in the way."""
    folder = _folder(user)

    def work(descriptor: int) -> None:
        for name, content in files.items():
            text = content
            if name in BLOCKS:
                there = hostile.read_below(descriptor, folder / name) or ""
                text = with_block(there, content, first=name == "config")
            hostile.write_below(descriptor, folder / name, text, 0o600, folder_mode=0o700)

    hostile.as_owner(root, resident_subid + UID, work)


def _folder(user: str) -> PurePosixPath:
    return PurePosixPath("home") / user / ".ssh"
