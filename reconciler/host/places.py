"""Where things are on a GPU server: every path of ours, once."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from state.view import View  # most programs need a path, and few the view

CONFIG = Path("/etc/lxc-gpu")
SERVER_CONFIG = CONFIG / "server.toml"
AUTHORIZED_KEYS = CONFIG / "authorized_keys"
"""One file per account, root's; sshd reads them by AuthorizedKeysFile. Not in the homes: there,
whoever got hold of an account could add keys that no revocation removes."""
REGISTER_KEYS = AUTHORIZED_KEYS / "register"
STATE_KEY = CONFIG / "keys" / "state"
"""The private key with which this server reads the state repository."""
STATE_KNOWN_HOSTS = CONFIG / "known_hosts"

KEPT = Path("/var/lib/lxc-gpu")
VIEW = KEPT / "view.json"
TRUSTED = KEPT / "trusted"
"""The last revision that was verified, by its full id."""
STATUS = KEPT / "status.json"
SUSPENDED = KEPT / "suspended.json"
FORWARDS = KEPT / "forwards.json"
"""Which ports users asked for beyond ssh; nothing else knows that."""
RESERVATIONS = KEPT / "reservations.json"
"""The book of reservations: no other file has it, and everybody may read it."""
WAITING = KEPT / "waiting.json"
"""The people who wait for free GPUs: no other file has them."""
STATE_CLONE = KEPT / "state.git"
TEMPLATES = KEPT / "templates"
HOST_KEYS = KEPT / "host_keys"
"""The containers' own ssh host keys, outside their file systems: a rebuild keeps them."""
NVIDIA = KEPT / "nvidia"
"""The driver's libraries, a folder for each version: what containers see read-only."""
NVIDIA_INSIDE = PurePosixPath("/usr/local/nvidia")
"""Where containers see one of them: where NVIDIA's own images look, too."""
IDLENESS = KEPT / "idleness.json"
"""How long each container that runs has not been used; everybody may read it."""
NOTICES = KEPT / "notices.json"
"""What people are to be told, and what they were; everybody may read it."""
STOPPED_IDLE = KEPT / "stopped-idle"
"""A file for each container that was stopped because nobody used it, until it starts."""
RUNNING = KEPT / "running"
"""A file for each container that runs: after a reboot it comes back."""
DOWN = KEPT / "down"
"""A file for each container that ran and is down for an announcement: it comes back after it."""
KEY_DAYS = KEPT / "key_days.json"
"""The day on which each key was last used."""

CONTAINERS = KEPT / "containers.json"
"""Which folder holds the containers, and the id that its marker has."""
MARKER = ".lxc-gpu-containers"
"""The marker's name, in the folder of the containers."""
CHOSEN = KEPT / "chosen"
"""A file for each user who chose another template than the server's own."""
MADE = KEPT / "made"
"""A file for each user whose container was made here: one that is gone is not made anew unasked."""

SPARES = KEPT / "spares.json"
"""Which unpacked systems are ready, and of which archives (`reconciler.spares.notes`)."""
SPARES_ACCOUNT = "lxc-gpu-spares"
"""Who has the ids in which they are unpacked; set-up makes it. No user's name begins like that."""
STORE = ".spares"
"""Where they are, in the folder of the containers."""

OLD_OWNERS = KEPT / "old-owners"
"""A file for each user who was shown an old home here, with the uid of the account whose it is."""

RUN = Path("/run/lxc-gpu")
LOCKS = RUN / "locks"
ROUND_SINCE_BOOT = RUN / "round-since-boot"
"""There once a round for the whole server ended: what a reboot takes away is nobody's doing."""
MOUNTS = RUN / "mounts"
"""What containers see of the server's folders, mounted once more with flags of ours."""
OLD_HOMES = RUN / "old-homes"
"""What containers see of homes that their users have had on the server, one mount for each."""
DEVICES = RUN / "devices"
"""The device files of containers, a small file system for each user."""
SYSTEMS = RUN / "systems"
"""Where containers start from whose systems are stored with ids of their own, a mount for each."""
SECCOMP = RUN / "containers.seccomp"
"""What containers may not ask the kernel (`reconciler.container.seccomp`)."""
RULES_COMPARED = RUN / "rules-compared"
"""At which number of the kernel's rules our nftables table was as it should be, and which one."""
RESERVATIONS_SEEN = RUN / "reservations-seen.json"
"""What the last look saw of programs on reserved GPUs; everybody may read it."""
CAME_BACK = RUN / "came-back"
"""Which start of a container nobody asked for: it came back, which is no use."""
CLOCK_SEEN = RUN / "clock-seen.json"
"""How far the wall clock is ahead of the boot's, and since when (`shells.units.clock`)."""
UNDERTAKINGS = RUN / "undertakings"
"""How the last work on each user's file system went."""

EXECUTABLES = Path("/usr/local/lib/lxc-gpu")
LOGIN_SHELL = EXECUTABLES / "login-shell"
REGISTER = EXECUTABLES / "register"

HOMES = Path("/home")
USERS_GROUP = "lxc-gpu-users"
"""The accounts in this group are ours; no other account is ever touched."""
BRIDGE = "lxcgpu0"


def container_config(user: str) -> Path:
    """The LXC configuration of the user's container, written afresh at each start."""
    return RUN / f"{user}.config"


def container_unit(user: str) -> str:
    """The systemd unit that runs the user's container."""
    return f"lxc-gpu@{user}.service"


def rootfs(view: View, user: str) -> Path:
    """The slot of the container's system (`reconciler.mounts.tree`)."""
    return Path(view.containers) / user / "rootfs"
