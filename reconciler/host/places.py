"""Every path of ours on a GPU server, once."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from state.view import View  # most programs need a path, and few the view

CONFIG = Path("/etc/lxc-gpu")
SERVER_CONFIG = CONFIG / "server.toml"
AUTHORIZED_KEYS = CONFIG / "authorized_keys"
"""A file of root's for each account, which sshd reads by AuthorizedKeysFile. They aren't in the
homes, where somebody with an account could add keys that no revocation removes."""
REGISTER_KEYS = AUTHORIZED_KEYS / "register"
STATE_KEY = CONFIG / "keys" / "state"
"""The private key with which this server reads the state repository."""
STATE_KNOWN_HOSTS = CONFIG / "known_hosts"

KEPT = Path("/var/lib/lxc-gpu")
VIEW = KEPT / "view.json"
TRUSTED = KEPT / "trusted"
"""The full id of the last revision that was verified."""
STATUS = KEPT / "status.json"
SUSPENDED = KEPT / "suspended.json"
FORWARDS = KEPT / "forwards.json"
"""The ports that users asked for, besides ssh. No other file has them."""
RESERVATIONS = KEPT / "reservations.json"
"""The book of reservations. No other file has it; everybody may read it."""
WAITING = KEPT / "waiting.json"
"""The users who wait for free GPUs. No other file has them."""
STATE_CLONE = KEPT / "state.git"
TEMPLATES = KEPT / "templates"
HOST_KEYS = KEPT / "host_keys"
"""The containers' ssh host keys, outside their file systems, so that a rebuild keeps them."""
NVIDIA = KEPT / "nvidia"
"""The driver's libraries, a folder for each version, which containers see read-only."""
NVIDIA_INSIDE = PurePosixPath("/usr/local/nvidia")
"""Where containers see one of them. NVIDIA's own images look there, too."""
IDLENESS = KEPT / "idleness.json"
"""How long each container that runs has not been used; everybody may read it."""
NOTICES = KEPT / "notices.json"
"""Notices to users, open and accepted; everybody may read it."""
STOPPED_IDLE = KEPT / "stopped-idle"
"""A file for each container that was stopped because nobody used it, until it starts."""
RUNNING = KEPT / "running"
"""A file for each container that was started and not stopped for good, so that it comes back after
a reboot."""
DOWN = KEPT / "down"
"""A file for each container that is down for an announcement, so that it comes back afterwards."""
KEY_DAYS = KEPT / "key_days.json"
"""The day on which each key was last used."""

CONTAINERS = KEPT / "containers.json"
"""Which folder holds the containers, and the id of its marker."""
MARKER = ".lxc-gpu-containers"
"""The marker's name, in the folder of the containers."""
CHOSEN = KEPT / "chosen"
"""A file for each user who chose another template than the server's own."""
MADE = KEPT / "made"
"""A file for each user whose container was made here, so that a lost one isn't made anew unasked.
"""

SPARES = KEPT / "spares.json"
"""Which unpacked systems are ready, and of which archives (`reconciler.spares.notes`)."""
SPARES_ACCOUNT = "lxc-gpu-spares"
"""The account in whose ids spares are unpacked; set-up makes it. No user's name begins like that.
"""
STORE = ".spares"
"""Where spares are, in the folder of the containers."""

OLD_OWNERS = KEPT / "old-owners"
"""A file for each user who was shown an old home here, with the uid of its account."""

RUN = Path("/run/lxc-gpu")
LOCKS = RUN / "locks"
ROUND_SINCE_BOOT = RUN / "round-since-boot"
"""It exists once a round for the whole server has ended since the boot: what a reboot undid before
that is not drift."""
MOUNTS = RUN / "mounts"
"""The server's folders for containers, mounted once more with our flags."""
OLD_HOMES = RUN / "old-homes"
"""Users' old homes for their containers, a mount for each."""
DEVICES = RUN / "devices"
"""Containers' device files, a small file system for each user."""
SYSTEMS = RUN / "systems"
"""The roots of containers whose systems are stored raw, a mount for each."""
SECCOMP = RUN / "containers.seccomp"
"""The system calls that containers may not make (`reconciler.container.seccomp`)."""
RULES_COMPARED = RUN / "rules-compared"
"""Which nftables table of ours was found right, and the kernel's number of its rules then."""
RESERVATIONS_SEEN = RUN / "reservations-seen.json"
"""What the last look saw of programs on reserved GPUs; everybody may read it."""
CAME_BACK = RUN / "came-back"
"""Which starts of containers the server itself made: they don't count as a use."""
CLOCK_SEEN = RUN / "clock-seen.json"
"""How far the wall clock is ahead of the clock since the boot, and since when
(`shells.units.clock`)."""
UNDERTAKINGS = RUN / "undertakings"
"""The state of the last work on each user's file system."""

EXECUTABLES = Path("/usr/local/lib/lxc-gpu")
LOGIN_SHELL = EXECUTABLES / "login-shell"
REGISTER = EXECUTABLES / "register"

HOMES = Path("/home")
USERS_GROUP = "lxc-gpu-users"
"""The accounts in this group are lxc-gpu's. No other account is ever changed."""
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
