"""Checks of what containers get of the server: folders, devices, disk, CPUs, memory."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from reconciler.container import device_nodes
from reconciler.cpus import control_groups
from reconciler.disk import project_quota, subvolumes
from reconciler.doctor.server import CheckedServer, unit_properties
from reconciler.host import marker
from reconciler.kinds.containers import disk_quota
from reconciler.kinds.containers.lxcfs import LxcfsKind
from reconciler.mounts import sources as mounts
from reconciler.mounts.tree import Tree
from reconciler.snapshots import copies
from reconciler.systems.raw_support import RawSupport, raw_support
from state.errors import LxcGpuError
from state.view import View
from state.wire.findings import Area, Finding, Level

MOST_SAID = 5
mounts_area, memory_area = Area("mounts"), Area("memory")


def sources(server: CheckedServer) -> Iterator[Finding]:
    """Whether the folders that containers are to see are there, with the right owner and mode."""
    if server.view is None:
        return
    wanted = mounts.all_mounts(server.view)
    good = []
    for source, mount in wanted.items():
        try:
            mounts.examined(mount)
        except LxcGpuError as error:
            text = f"{error.message} Containers start without {mount.target}."
            yield mounts_area.met(error, text)
        else:
            good.append(source)
    if good:
        yield mounts_area.ok(f"containers can see {', '.join(good)}")


def devices(server: CheckedServer) -> Iterator[Finding]:
    """Whether the device files that containers are to get are there."""
    view, area = server.view, Area("devices")
    if view is None:
        return
    people = [name for user in view.residents.values() for name in user.devices]
    wanted = dict.fromkeys((*device_nodes.FOR_ALL, *view.devices, *people))
    good = []
    for name in wanted:
        fit, wrong = device_nodes.looked_at(device_nodes.named(name))
        good += [name] if fit else []
        wrong += [] if fit or wrong else [device_nodes.missing(name)]
        for error in wrong:
            yield area.met(error, f"{error.message} Containers start without it.", Level.NOTE)
    if good:
        yield area.ok(f"containers can have {', '.join(good)}")


def quotas(server: CheckedServer) -> Iterator[Finding]:
    """Whether `limits: disk` is enforced."""
    view = server.view
    people = [n for n in view.residents if view.limits_of(n).disk is not None] if view else []
    if view is None or not people:
        return
    try:
        marker.check(view)
    except LxcGpuError:  # `containers_folder` reports it; this check would look at another disk
        return
    names = ", ".join([*people[:MOST_SAID], *(["..."] if people[MOST_SAID:] else [])])
    if disk_quota.available(view):
        yield Area("disk").ok(f"`limits: disk` of {names} is held by the file system's quotas")
    else:
        yield Area("disk").note(
            f"`limits: disk` is set for {names}: it is shown, and not enforced.",
            f"{view.containers} is on a file system without quotas for trees, or with them off: "
            "ext4 and xfs have them, mounted with `prjquota`; btrfs by `btrfs quota enable "
            '--simple` (Linux 6.7). See docs/sysadmins/limits.md, "Disk quotas".',
        )


def own_snapshots(server: CheckedServer) -> Iterator[Finding]:
    """Whether the server can take the snapshots that it is to take automatically."""
    view = server.view
    if view is None or view.snapshots_every is None or not Path(view.containers).is_dir():
        return
    if not subvolumes.is_on_btrfs(Path(view.containers)):
        yield Area("disk").note(
            "`snapshots: every` is set, but the server can't take snapshots automatically.",
            f"That needs btrfs, and {view.containers} is not on it. People take theirs by "
            "`snapshot`.",
        )
        return
    if people := [name for name in view.residents if _gets_no_copies(view, name)]:
        yield no_own_snapshots(view.server, people)


def _gets_no_copies(view: View, user: str) -> bool:
    try:
        return not copies.possible(Tree.of(view, user, view.residents[user]))
    except (LxcGpuError, OSError):  # there is no system, or it is damaged: other checks report it
        return False


def no_own_snapshots(server: str, people: Sequence[str]) -> Finding:
    """The finding for users whose systems aren't btrfs subvolumes. Pure."""
    some = ", ".join(people[:MOST_SAID])
    more = f" and {len(people) - MOST_SAID} more" if len(people) > MOST_SAID else ""
    return Area("disk").note(
        f"The server takes no snapshots of {some}{more}: their systems are not btrfs subvolumes.",
        f"They type, once: `ssh {server}-manage rebuild --keep-home`, which begins anew; or "
        f"`ssh {server}-manage snapshot NAME`, then `recover NAME`, which keeps all.",
    )


def raw_systems(server: CheckedServer) -> Iterator[Finding]:
    """How new systems are stored, and what that means for the server's own quotas and backups."""
    if server.view is None:
        return
    try:
        if not marker.check(server.view):
            return
        found = raw_support(server.view)
        folder = os.open(server.view.containers, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (LxcGpuError, OSError):  # `containers_folder` says so
        return
    try:
        yield raw_systems_of(server.view.containers, found, project_quota.holds_accounts(folder))
    finally:
        os.close(folder)


def raw_systems_of(containers: str, kernel: RawSupport, accounts_held: bool) -> Finding:
    """What it means whether the kernel can map ids here, and whether users have quotas. Pure."""
    if not kernel.answered:
        return Area("disk").note(
            f"Whether new systems in {containers} can be stored raw could not be tried: "
            f"{kernel.why_not.rstrip('.')}. Until it can, new ones are stored with shifted ids.",
            "Make room there, if the disk is full. It is tried again with the next one. What "
            "came shifted meanwhile (`journalctl -t lxc-gpu | grep system-shifted`) is raw after a "
            "`rebuild`.",
        )
    if kernel.why_not:
        return Area("disk").note(
            f"New systems in {containers} are stored with shifted ids, so each is unpacked for its "
            f"user, and none is kept ready: {kernel.why_not}",
            "Nothing is broken. Linux 5.19 or later can do without, with ext4, xfs, btrfs, or ZFS "
            "from 2.2 on. It is tried again after a boot.",
        )
    if accounts_held:
        return Area("disk").note(
            f"{containers} has quotas of users or groups, which count containers' files for the "
            "server's accounts of the same numbers (0, 1000): containers fail when those are full.",
            f"quotaoff --user --group {containers}, and take them out of /etc/fstab: `limits: "
            "disk` goes by project quotas.",
        )
    return Area("disk").ok(
        "new systems are stored raw: backups see uid 0 and 1000 below closed folders"
    )


def cpu_sets(server: CheckedServer) -> Iterator[Finding]:
    """Whether containers with a limit on cpus see only so many CPUs."""
    view, area = server.view, Area("cpus")
    people = [n for n in view.residents if view.limits_of(n).cpus is not None] if view else []
    if view is None or not people:
        return
    if not view.cpu_sets:
        yield area.ok("`cpu_sets: false`: containers with a limit on cpus see all of them")
        return
    groups = control_groups.mounted()
    if groups is None:
        yield area.note(
            "The kernel has no cpusets here: containers with a limit on cpus see all CPUs, "
            "though they get no more time than the limit.",
            "They are part of unified control groups: `cat /sys/fs/cgroup/cgroup.controllers` "
            "names `cpuset`. `cpu_sets: false` ends this note: see docs/sysadmins/limits.md, CPUs.",
        )
        return
    on = Counter(cpu for cpus in groups.held().values() for cpu in cpus)
    most = max(on.values(), default=0)
    shared = f"; {most} of them share the fullest CPU" if most > 1 else ""
    yield area.ok(f"containers with a limit on cpus see only so many CPUs{shared}")


def lxcfs(server: CheckedServer) -> Iterator[Finding]:
    """Whether containers see their own limits as the machine's memory, by way of lxcfs."""
    if unit_properties("lxcfs.service", "ActiveState") != {"ActiveState": "active"}:
        yield memory_area.note(
            "lxcfs doesn't run: `free` in a container shows the whole server's memory.",
            "systemctl enable --now lxcfs; containers that run see it after the next round",
        )
        return
    yield memory_area.ok("lxcfs runs: containers see their own limits as the machine's memory")
    stale = LxcfsKind().observe(server.view, ()).found if server.view else ()
    if stale:
        yield memory_area.wrong(
            "These containers have files of an lxcfs that has ended: "
            f"{', '.join(sorted(stale))}. In them, `free`, `ps` and all that reads /proc/meminfo "
            "fails.",
            "`lxc-gpu reconcile` gives them files of the lxcfs that runs. If it can't: systemctl "
            "restart lxc-gpu@USER",
        )
