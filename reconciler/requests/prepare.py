"""Prepares a container's start: configuration, host key, resolvers, our files."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path, PurePosixPath

from reconciler.children import hostile
from reconciler.children.hostile import HostileError
from reconciler.container import home_files, seccomp
from reconciler.container.apparmor import Confinement, confinement, profile_for
from reconciler.container.clock import own_clock
from reconciler.container.lxc_config import lxc_config, resolvers_line
from reconciler.host import locks, places
from reconciler.host.journal import event
from reconciler.mounts.tree import Tree
from reconciler.network.resolvers import resolv_conf
from reconciler.nvidia.supply import supply
from reconciler.requests.devices import binds as device_binds
from reconciler.requests.mounting import binds as mount_binds
from reconciler.systems import way_in
from reconciler.systems.attached import attach
from state import command, files
from state.errors import LxcGpuError
from state.view import Resident, View

INSIDE = """\
# Written by lxc-gpu at each start: work on GPUs pins memory and opens many files, and systemd would
# give its services, sshd among them, less than the container has.
[Manager]
DefaultLimitMEMLOCK=infinity
DefaultLimitNOFILE=65536:1048576
"""
"""Limits that the container's own systemd gives its services (systemd-system.conf(5))."""
SESSIONS = """\
# Written by lxc-gpu at each start: PAM would begin every session with 1024 open files, systemd's
# limits or not.
*    soft nofile 65536
root soft nofile 65536
"""
"""Limits that sessions begin with (limits.conf(5)). Soft ones only, which are cut to the hard ones:
a hard limit that can't be set would lock everybody out."""


def prepare(view: View, user: str, resident: Resident) -> tuple[str, ...]:
    """Write the configuration anew, and put what the start needs into the file system.

    Returns, in words, what is in the way inside: only the owner can mend that, from inside, so
    the container starts anyway. LxcGpuError if its host key is gone.
    """
    nvidia = supply(view, user, resident)
    folders, left_out = mount_binds(view, user, resident)
    profile = profile_for(view.nesting)
    confined = confinement(profile)
    if confined is Confinement.NONE:
        event("unconfined", user=user, reason=confined.value)
    devices, missing = device_binds(view, user, resident, nvidia.devices)
    binds = [*devices, *nvidia.binds, *folders]
    seccomp.write()
    tree = attach(Tree.of(view, user, resident), user)
    root = tree.shown_at or tree.slot
    config = lxc_config(view, user, resident, root, binds, nvidia.hook, confined.told(profile))
    config += own_clock() + resolvers_line(resolv_conf(view))
    files.write_file(places.container_config(user), config)
    home = home_files.desired_files(view, user, resident)
    contents = _contents_for_root(view, user, resident)
    mended = way_in.mend(view, user, resident, tree)
    notes = [*nvidia.notes, *missing, *left_out, *mended]
    puts = [
        partial(_install_as_root, tree, contents),
        partial(home_files.write, tree, user, home),
    ]
    covered = home_files.mounted_home(view, user)
    if covered is not None and covered[1] in {bind.source for bind in folders}:
        notes += way_in.mend_mounted(view, user, resident)
        puts.append(partial(home_files.write_mounted, view, user, resident, home))
    for put in puts:
        try:
            put()
        except HostileError as error:
            notes.append(f"{error.message} {error.hint}".rstrip())
    return tuple(notes)


def _contents_for_root(view: View, user: str, resident: Resident) -> Mapping[str, tuple[str, int]]:
    """The ssh host keys and the resolvers, with their modes."""
    private = files.read_text(places.HOST_KEYS / user)
    if private is None:
        raise LxcGpuError(
            "host-key-missing",
            f"The ssh host key of your container is not on {view.server} any more.",
            f"Register again, nothing is lost: `ssh register@{view.server}-manage {user}`",
        )
    return {
        "etc/ssh/ssh_host_ed25519_key": (private, 0o600),
        "etc/ssh/ssh_host_ed25519_key.pub": (f"{resident.host_key}\n", 0o644),
        "etc/systemd/system.conf.d/50-lxc-gpu.conf": (INSIDE, 0o644),
        "etc/security/limits.d/50-lxc-gpu.conf": (SESSIONS, 0o644),
        "etc/resolv.conf": (resolv_conf(view), 0o644),
    }


def _install_as_root(tree: Tree, contents: Mapping[str, tuple[str, int]]) -> None:
    """Put files in place as the container's root."""

    def work(root: int) -> None:
        for path, (text, mode) in contents.items():
            hostile.write_below(root, PurePosixPath(path), text, mode, folder_mode=0o755)

    hostile.as_owner(tree, tree.first, work)


def make_host_key(user: str) -> str:
    """The public ssh host key of the user's container, made now if there is none yet."""
    private = places.HOST_KEYS / user
    with locks.lock(f"host-key-{user}"):
        _make_host_key(private)
    return command.run(["ssh-keygen", "-y", "-f", private]).stdout.strip()


def _make_host_key(private: Path) -> None:
    user = private.name
    if not private.exists():
        places.HOST_KEYS.mkdir(mode=0o700, parents=True, exist_ok=True)
        beside = places.HOST_KEYS / f".{user}.new"
        for leftover in (beside, beside.with_name(f"{beside.name}.pub")):
            leftover.unlink(missing_ok=True)
        command.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", beside])
        beside.with_name(f"{beside.name}.pub").unlink()
        files.write_file(private, beside.read_bytes(), 0o600)
        beside.unlink()
        files.sync_folder(places.KEPT)
