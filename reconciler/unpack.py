"""A container's file system from the server's template.

tar runs in the user's id map, started as the user (newuidmap(1) gives the ids of /etc/subuid to
nobody else): owners, set-uid bits and file capabilities come out right, and nothing in an archive
can do more than the user can. Everything happens in a folder beside, renamed when it is whole.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from reconciler import hostile, places
from reconciler.container_home import UID
from reconciler.lxc_config import hostname, rootfs
from reconciler.plan import Tell
from state import command
from state.errors import LxcGpuError, Remedy
from state.files import keep_folder
from state.view import Resident, View
from state.wire import Progress

CHUNK = 1 << 20
"""Bytes that are passed on at a time."""
LONGEST_COMPLAINT = 1 << 16
"""Bytes of what tar says about a failure that are looked at."""
TELL_EVERY = 0.5
"""Seconds between two lines of progress."""


def template(view: View) -> Path:
    """The server's template; LxcGpuError if it isn't there."""
    path = places.TEMPLATES / f"{view.template}.tar.zst"
    if not path.is_file():
        raise LxcGpuError(
            "template-missing",
            f"The template {view.template} is not on this server, so no container can be made.",
            f"Sysadmin: run `setup/template {path}` on {view.server}.",
            Remedy.WAIT,
        )
    return path


def make_container(view: View, user: str, resident: Resident, tell: Tell) -> None:
    """Unpack the template and make it the user's own. What exists is left alone."""
    source = template(view)
    root = rootfs(view, user)
    folder = root.parent
    folder.mkdir(mode=0o711, parents=True, exist_ok=True)
    folder.chmod(0o711)
    beside = root.with_name("rootfs.new")
    remove_tree(beside)
    beside.mkdir(mode=0o755)
    os.chown(beside, resident.subid, resident.subid)
    try:
        _unpack(source, beside, user, resident, view.subid_size, tell)
        tell(Progress(f"making the container {user}'s own"))
        _make_own(beside, view, user, resident)
    except BaseException:
        remove_tree(beside)
        raise
    beside.rename(root)
    keep_folder(folder)


def remove_tree(tree: Path) -> None:
    """Remove a file system, if it is there: renamed first, so that a half-removed one isn't used.

    shutil.rmtree follows no links, whatever happens below meanwhile.
    """
    if not os.path.lexists(tree):
        return
    trash = tree.with_name(f".trash-{secrets.token_hex(4)}")
    tree.rename(trash)
    shutil.rmtree(trash)


def link_from_home(view: View, user: str, uid: int) -> None:
    """Make the container reachable where LXC looks for a user's: ~/.local/share/lxc/USER."""
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

    hostile.as_owner(places.HOMES / user, uid, work)


def in_id_map(user: str, resident: Resident, size: int, argv: Sequence[str]) -> list[str]:
    """`argv` as root of the user's id map: started by the user, who owns the range."""
    return [
        "setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups",
        *mapped(resident, size, argv),
    ]  # fmt: skip


def mapped(resident: Resident, size: int, argv: Sequence[str]) -> list[str]:
    """The same for a program that runs as the user already."""
    return ["lxc-usernsexec", "-m", f"b:0:{resident.subid}:{size}", "--", *argv]


def _unpack(
    source: Path, beside: Path, user: str, resident: Resident, size: int, tell: Tell
) -> None:
    tar = [
        "tar", "--extract", "--zstd", "--file=-", f"--directory={beside}", "--numeric-owner",
        "--same-permissions", "--xattrs", "--xattrs-include=*", "--acls", "--exclude=./dev/*",
    ]  # fmt: skip
    total = source.stat().st_size or 1
    argv = in_id_map(user, resident, size, tar)
    with (
        source.open("rb") as archive,
        # not a pipe: on a full disk tar complains of every file, and would wait for a reader
        os.fdopen(os.memfd_create("tar-said"), "r+b") as complaints,
        command.started(
            argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=complaints
        ) as child,
    ):
        assert child.stdin is not None  # noqa: S101
        told = 0.0
        try:
            while chunk := archive.read(CHUNK):
                child.stdin.write(chunk)
                if time.monotonic() - told > TELL_EVERY:
                    told = time.monotonic()
                    tell(Progress("unpacking the template", archive.tell() / total))
            child.stdin.close()
        except BrokenPipeError:
            pass  # tar ended early: what it says on stderr is the reason
        if child.wait() != 0:
            complaints.seek(0)
            said = complaints.read(LONGEST_COMPLAINT).decode("utf-8", "replace")
            raise _unpack_error(said, beside)
    tell(Progress("unpacking the template", 1.0))


def _unpack_error(said: str, beside: Path) -> LxcGpuError:
    if "No space left" in said or "Disk quota" in said:
        return LxcGpuError(
            "disk-full",
            f"The disk of {beside.parent.parent} is full: the template could not be unpacked.",
            "Nothing was kept of it. Sysadmin: free some space; then register again.",
            Remedy.PERSON,
            said,
        )
    last = (said.strip().splitlines() or ["tar printed nothing"])[-1]
    return LxcGpuError("unpack", f"The template could not be unpacked: {last}", details=said)


def _make_own(beside: Path, view: View, user: str, resident: Resident) -> None:
    """The user with sudo, the names, an id of its own. The template is still as we packed it."""
    useradd = [
        "chroot", str(beside), "/usr/sbin/useradd", "--create-home", "--user-group",
        f"--uid={UID}", "--groups=sudo", "--shell=/bin/bash", f"--comment={resident.full_name}",
        user,
    ]  # fmt: skip
    command.run(in_id_map(user, resident, view.subid_size, useradd))
    name = hostname(view, user)
    files = {
        f"etc/sudoers.d/{user}-of-lxc-gpu": (f"{user} ALL=(ALL:ALL) NOPASSWD: ALL\n", 0o440),
        "etc/hostname": (f"{name}\n", 0o644),
        "etc/hosts": (f"127.0.0.1\tlocalhost\n{resident.address}\t{name}\n", 0o644),
        "etc/machine-id": (f"{secrets.token_hex(16)}\n", 0o444),
    }

    def work(root: int) -> None:
        for path, (text, mode) in files.items():
            hostile.write_below(root, PurePosixPath(path), text, mode, folder_mode=0o755)

    hostile.as_owner(beside, resident.subid, work)
