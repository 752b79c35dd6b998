"""A container's system from the server's template: unpacked elsewhere, renamed when complete."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import PurePosixPath

from reconciler.archives.extract import PackedSystem, extract
from reconciler.archives.id_map import IdMapOwner, run_inside
from reconciler.children import hostile
from reconciler.container.home_files import UID
from reconciler.container.lxc_config import hostname
from reconciler.container.undertaking import busy
from reconciler.host import locks, places
from reconciler.host.places import rootfs
from reconciler.mounts.tree import Tree
from reconciler.plan import Tell
from reconciler.spares import store
from reconciler.spares.decision import UNPACKED
from reconciler.systems.folders import beside
from reconciler.systems.template_choice import archive_of, chosen
from state.files import settle, sync_folder
from state.view import Resident, View
from state.wire.messages import Progress

NOBODY_ELSES = {
    PurePosixPath("var/lib/systemd"): "random-seed",
    PurePosixPath("etc/ssh"): "ssh_host_",
}
"""Files that a template may have, and that systems must not share: folders and name prefixes."""


def make_container(view: View, user: str, resident: Resident, tell: Tell) -> None:
    """Unpack the template and adapt it to the user. An existing system is left alone."""
    root = rootfs(view, user)
    with locks.lock(locks.tree_lock(user), wait=False) as free:
        if not free:  # without waiting: others take the user's lock after this one
            raise busy(user)
        with beside(view, user, resident) as tree:
            fresh_system(view, user, resident, tree, tell, chosen(view, user))
            settle(tree.slot)
            tree.slot.rename(root)
            sync_folder(root.parent)


def fresh_system(
    view: View, user: str, resident: Resident, tree: Tree, tell: Tell, name: str
) -> None:
    """Fill the empty `tree` with a system from the template `name`, with the user in it."""
    path = archive_of(view, name)
    owner = IdMapOwner.of(view, user, resident)
    if store.take(view, name, tree, owner, tell):
        tell(Progress("taking the system that is ready"))
        _make_own(tree, view, user, resident)
        return
    about = UNPACKED * path.stat().st_size
    store.give_way(view, min(about, store.within_reach(view)))
    with path.open("rb", buffering=0) as archive:
        source = PackedSystem(archive.fileno(), "the template", path.stat().st_size)
        extract(source, tree, owner, tell)
    tell(Progress(f"making the container {user}'s own"))
    _make_own(tree, view, user, resident)


def link_from_home(view: View, user: str, uid: int) -> None:
    """Make the container reachable where LXC looks for it: ~/.local/share/lxc/USER."""
    target = rootfs(view, user).parent

    def work(home: int) -> None:
        place = PurePosixPath(".local/share/lxc")
        for way in (*reversed(place.parents[:-1]), place):
            with hostile.opened_folder(home, way, make=0o711) as folder:
                os.fchmod(folder, 0o711)  # the container's root has to pass through
        with hostile.opened_folder(home, place) as folder:
            try:
                present = os.readlink(user, dir_fd=folder)
            except FileNotFoundError:
                os.symlink(target, user, dir_fd=folder)
            else:
                if present != str(target):
                    os.unlink(user, dir_fd=folder)
                    os.symlink(target, user, dir_fd=folder)

    hostile.as_owner(places.HOMES / view.account_of(user), uid, work)


def _make_own(tree: Tree, view: View, user: str, resident: Resident) -> None:
    """Add the user with sudo, names and a machine id. The template is still as we packed it."""
    useradd = [
        "/usr/sbin/useradd", "--create-home", "--user-group", f"--uid={UID}", "--groups=sudo",
        "--shell=/bin/bash", f"--comment={resident.full_name}", user,
    ]  # fmt: skip
    run_inside(tree, useradd)
    name = hostname(view, user)
    files = {
        f"etc/sudoers.d/{user}-of-lxc-gpu": (f"{user} ALL=(ALL:ALL) NOPASSWD: ALL\n", 0o440),
        "etc/hostname": (f"{name}\n", 0o644),
        "etc/hosts": (f"127.0.0.1\tlocalhost\n{resident.address}\t{name}\n", 0o644),
        "etc/machine-id": (f"{os.urandom(16).hex()}\n", 0o444),
    }

    def work(root: int) -> None:
        for path, (text, mode) in files.items():
            hostile.write_below(root, PurePosixPath(path), text, mode, folder_mode=0o755)
        for place, begin in NOBODY_ELSES.items():
            with suppress(FileNotFoundError), hostile.opened_folder(root, place) as folder:
                for name in [e.name for e in os.scandir(folder) if e.name.startswith(begin)]:
                    os.unlink(name, dir_fd=folder)

    hostile.as_owner(tree, resident.subid, work)
