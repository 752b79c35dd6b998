"""Checks of disks, of the template, and of the owners and modes of our files."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from reconciler.doctor.server import CheckedServer, as_nobody, text_of
from reconciler.doctor.service import duration
from reconciler.host import marker, places
from reconciler.rounds import keep_spares
from reconciler.snapshots.user_archives import OURS
from reconciler.spares import notes
from reconciler.spares.decision import Readiness
from reconciler.systems import template_choice
from reconciler.systems.raw_support import raw_support
from state.errors import LxcGpuError
from state.wire.findings import Area, Finding, Level
from state.words import plural

disk_area, template_area, files_area = Area("disk"), Area("template"), Area("files")
GIB = 2**30
ZSTD = bytes.fromhex("28b52ffd")
"""How a zstd frame begins (RFC 8878)."""
UNFIT = frozenset({"nfs", "nfs4", "cifs", "smb3", "vfat", "exfat", "ntfs3", "fuseblk", "tmpfs"})
"""File systems that don't keep owners, capabilities, or anything at all."""
PRIVATE = 0o077
WRITABLE = 0o022


def space(server: CheckedServer) -> Iterator[Finding]:
    """Whether there is room on the disks that we write to."""
    folders = [Path("/"), places.KEPT]
    if server.view is not None:
        folders += [Path(server.view.containers), Path(server.view.snapshots)]
    yield from _space(folders)


def space_of_iam(_: object) -> Iterator[Finding]:
    """Whether there is room on the web machine's disks."""
    yield from _space([Path("/"), places.KEPT])


def _space(folders: list[Path]) -> Iterator[Finding]:
    seen: set[int] = set()
    for folder in folders:
        there = next(f for f in (folder, *folder.parents) if f.exists())
        device = there.stat().st_dev
        if device not in seen:
            seen.add(device)
            s = os.statvfs(there)
            yield room(str(there), s.f_bavail * s.f_frsize, s.f_blocks * s.f_frsize,
                       s.f_favail, s.f_files)  # fmt: skip


def room(folder: str, free: int, total: int, inodes: int, all_inodes: int) -> Finding:
    """What the numbers of statvfs(3) mean. Pure."""
    words = f"{folder}: {free / GIB:.0f} of {total / GIB:.0f} GiB free"
    hint = f"du -xh --max-depth=2 {folder} | sort -h | tail"
    if all_inodes and inodes < all_inodes / 100:
        return disk_area.wrong(f"{folder}: no inodes left, nothing new can be made.",
                               f"du --inodes -xd2 {folder} | sort -n | tail")  # fmt: skip
    if free < min(GIB, total / 50):
        return disk_area.wrong(f"{words}: rounds and containers will fail soon.", hint)
    if free < min(20 * GIB, total / 20):
        return disk_area.note(f"{words}.", hint)
    return disk_area.ok(words)


def containers_folder(server: CheckedServer) -> Iterator[Finding]:
    """Whether the disk of the containers is there, with all of them, and can hold a system."""
    if server.view is None:
        return
    folder = Path(server.view.containers)
    try:
        there = marker.look(server.view)
        there.settled(server.view)
    except LxcGpuError as error:
        yield disk_area.met(error)
        return
    for name in sorted(there.gone & server.view.residents.keys()):
        yield disk_area.met(marker.gone(server.view, name))
    mounts = text_of("/proc/self/mountinfo") or ""
    yield mount_finding(mounts, str(folder))
    nearest = next(f for f in (folder, *folder.parents) if f.exists())
    try:
        os.getxattr(nearest, "security.capability")
    except OSError as error:
        if error.errno in (errno.ENOTSUP, errno.ENOSYS):
            yield disk_area.wrong(
                f"The file system of {folder} keeps no file capabilities: ping, newuidmap and "
                "others don't work in containers.",
                "Use ext4, xfs, btrfs or zfs (with xattr=sa).",
            )


def snapshots_folder(server: CheckedServer) -> Iterator[Finding]:
    """Whether users can get at the folder of their snapshots."""
    if server.view is None:
        return
    folder = Path(server.view.snapshots)
    if folder == OURS and not folder.exists():
        yield disk_area.ok(f"{folder} will be made with the first snapshot")
    elif as_nobody("test", "-x", folder).ok:
        yield disk_area.ok(
            f"{folder} holds up to {plural(server.view.snapshots_kept, 'snapshot')} of each user"
        )
    else:
        yield disk_area.wrong(
            f"{folder} is not there, or lets no user in: nobody can take or find a snapshot.",
            f"Mount the NAS; `mkdir -m 711 {folder}` (1777 for a NAS with root squash); `o+x` on "
            "the folders above.",
        )


def mount_finding(mountinfo: str, folder: str) -> Finding:
    """What /proc/self/mountinfo (proc(5)) says of the mount that `folder` is on. Pure."""
    best, options, kind = "", "", ""
    for line in mountinfo.splitlines():
        fields, _, rest = line.partition(" - ")
        point = fields.split()[4].replace("\\040", " ")
        inside = folder == point or folder.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):  # of two at one place, the later one is on top
            best, options, kind = point, fields.split()[5], rest.split()[0]
    bad = [word for word in ("ro", "nosuid", "noexec", "nodev") if word in options.split(",")]
    bad = [word for word in bad if word != "nodev"]
    if bad:
        return disk_area.wrong(
            f"{folder} is on {best}, which is mounted {', '.join(bad)}: {_means(bad[0])}.",
            f"mount -o remount,rw,suid,exec {best}, and take it out of /etc/fstab",
        )
    if kind in UNFIT:
        return disk_area.wrong(
            f"{folder} is on {kind}, which can't hold containers.",
            "Use a local disk: `containers:` in the server's file, with ext4, xfs, btrfs or zfs.",
        )
    return disk_area.ok(f"{folder} is on {kind} ({best}), fit for containers")


def _means(option: str) -> str:
    return {
        "ro": "no container can be made or started",
        "nosuid": "sudo doesn't work in containers",
        "noexec": "no container starts",
    }[option]


def template(server: CheckedServer) -> Iterator[Finding]:
    """Whether the templates that people may take are there."""
    if server.view is None:
        return
    missing = template_choice.missing(server.view)
    for name in server.view.offered:
        yield template_area.met(missing[name]) if name in missing else _archive_finding(name)


def _archive_finding(template: str) -> Finding:
    path = notes.archive(template)
    status = path.stat()
    with path.open("rb") as stream:
        begin = stream.read(len(ZSTD))
    if begin != ZSTD or status.st_size < 1 << 20:
        text = f"{path} is not a zstd archive: no container can be made from it."
        return template_area.wrong(text, f"Remove it, then {template_choice.to_get(template)}.")
    age = duration(max(0, time.time() - status.st_mtime))
    return template_area.ok(f"{path.name}: {status.st_size / 2**20:.0f} MiB, made {age} ago")


def spares(server: CheckedServer) -> Iterator[Finding]:
    """Whether systems are ready for the next registrations."""
    if server.view is None:
        return
    if not server.view.spares:
        yield template_area.ok("no system is kept ready (`spares: 0`)")
        return
    try:
        kernel = raw_support(server.view)
        if kernel.why_not and kernel.answered:  # `raw_systems` says so
            return
        keep_spares.check_account()
        found = keep_spares.ready(server.view)
    except OSError:  # `containers_folder` says so
        return
    except LxcGpuError as error:
        if error.code == "no-account":
            yield template_area.met(error, level=Level.NOTE)
        return
    for one in found:
        yield readiness_finding(one)


def readiness_finding(one: Readiness) -> Finding:
    """The finding for one template: how many systems are ready, or why none is. Pure."""
    if one.ready:
        return template_area.ok(f"systems from {one.template}: {one.words()}")
    if one.why_not:
        return template_area.note(
            f"No system from {one.template} is ready, and none is made: {one.why_not}",
            "It is tried again within an hour. `journalctl -t lxc-gpu | grep spare-failed`",
        )
    return template_area.note(
        f"No system from {one.template} is ready yet: a registration unpacks it meanwhile.",
        f"`systemctl status {keep_spares.UNIT}`; `systemctl start {keep_spares.UNIT}`",
    )


def permissions(_: CheckedServer) -> Iterator[Finding]:
    """Whether our files belong to root, and nobody else may write, or read, them."""
    private = [places.STATE_KEY.parent, places.STATE_KEY, places.HOST_KEYS]
    private += [p for p in sorted(places.HOST_KEYS.glob("*")) if p.is_file()]
    executables = places.EXECUTABLES.resolve()
    ours = [places.CONFIG, places.AUTHORIZED_KEYS, places.KEPT, executables]
    ours += sorted(places.AUTHORIZED_KEYS.glob("*")) + sorted(executables.glob("*"))
    found = False
    for path, forbidden in [(p, PRIVATE) for p in private] + [(p, WRITABLE) for p in ours]:
        try:
            status = path.lstat()
        except FileNotFoundError:
            found = True
            yield files_area.wrong(f"{path} is missing.", "Run `setup/gpu-server` again.")
            continue
        if problem := mode_problem(str(path), status.st_mode, status.st_uid, forbidden):
            found = True
            yield problem
    if not found:
        yield files_area.ok(
            f"{len(private) + len(ours)} files of lxc-gpu have the right owners and modes"
        )


def mode_problem(path: str, mode: int, uid: int, forbidden: int) -> Finding | None:
    """What is wrong with an owner and a mode; None if nothing is. Pure."""
    if stat.S_ISLNK(mode):
        return files_area.wrong(f"{path} is a link, where a file has to be.", f"ls -l {path}")
    if uid != 0:
        return files_area.wrong(
            f"{path} belongs to uid {uid}, not to root.", f"chown root:root {path}"
        )
    if stat.S_IMODE(mode) & forbidden:
        what = "read" if forbidden == PRIVATE else "write"
        words = f"{path} has mode {stat.S_IMODE(mode):04o}: others may {what} it."
        return files_area.wrong(words, f"chmod {stat.S_IMODE(mode) & ~forbidden:04o} {path}")
    return None
