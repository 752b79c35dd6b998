"""What the server shares out: folders, memory as containers see it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from reconciler.doctor.server import Server, output, unit_properties
from reconciler.host import marker
from reconciler.kinds.containers import disk_quota
from reconciler.mounts import sources as mounts
from state.errors import LxcGpuError
from state.wire.findings import Area, Finding

MOST_SAID = 5
LXCFS = Path("/var/lib/lxcfs")
mounts_area, memory_area = Area("mounts"), Area("memory")


def sources(server: Server) -> Iterator[Finding]:
    """Whether the folders that containers are to see are there, and as they have to be."""
    if server.view is None:
        return
    wanted = mounts.all_mounts(server.view)
    good = []
    for source, mount in wanted.items():
        try:
            mounts.examined(mount)
        except LxcGpuError as error:
            text = f"{error.message} Containers start without {mount.target}."
            yield mounts_area.wrong(text, error.hint.removeprefix("Sysadmin: "))
        else:
            good.append(source)
    if good:
        yield mounts_area.ok(f"containers can see {', '.join(good)}")


def quotas(server: Server) -> Iterator[Finding]:
    """Whether limits of the disk that are set hold."""
    view = server.view
    people = [n for n in view.residents if view.limits_of(n).disk is not None] if view else []
    if view is None or not people:
        return
    try:
        marker.check(view)
    except LxcGpuError:  # `containers_folder` says so; this would be about another disk
        return
    names = ", ".join([*people[:MOST_SAID], *(["..."] if people[MOST_SAID:] else [])])
    if disk_quota.available(view):
        yield Area("disk").ok(f"`limits: disk` of {names} is held by project quotas")
    else:
        yield Area("disk").note(
            f"`limits: disk` is set for {names}: it is shown, and not enforced.",
            f"{view.containers} is on a file system without project quotas, or with them off: "
            'ext4 and xfs have them, mounted with `prjquota`. See the guide, "Disk quotas".',
        )


def lxcfs(_: Server) -> Iterator[Finding]:
    """Whether containers see their own limits as the machine's memory, by way of lxcfs."""
    shown = unit_properties("lxcfs.service", "ActiveState", "ActiveEnterTimestampMonotonic")
    if shown.get("ActiveState") != "active" or not (LXCFS / "proc/meminfo").exists():
        yield memory_area.note(
            "lxcfs doesn't run: `free` in a container shows the whole server's memory.",
            "systemctl enable --now lxcfs; containers see it after a restart",
        )
        return
    yield memory_area.ok("lxcfs runs: containers see their own limits as the machine's memory")
    since = shown.get("ActiveEnterTimestampMonotonic", "")
    stale = [user for user, began in _running() if since.isdigit() and began < int(since)]
    if stale:
        yield memory_area.wrong(
            f"lxcfs was started again after these containers: {', '.join(stale)}. In them, "
            "`free` and all that reads /proc/meminfo fails.",
            "They type `ssh SERVER-manage restart`; you: systemctl restart lxc-gpu@USER",
        )


def _running() -> Iterator[tuple[str, int]]:
    """Containers that run, and since when, in microseconds since the boot."""
    listing = output("systemctl", "list-units", "--state=active", "--plain", "--no-legend",
                     "lxc-gpu@*")  # fmt: skip
    for line in listing.splitlines():
        unit = (line.split() or [""])[0]
        began = unit_properties(unit, "ActiveEnterTimestampMonotonic")
        number = began.get("ActiveEnterTimestampMonotonic", "")
        if number.isdigit():
            yield unit.split("@")[1].removesuffix(".service"), int(number)
