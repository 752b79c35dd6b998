"""What a start gives a container of NVIDIA's driver: device files, and the libraries that fit.

Whatever is wrong becomes a note for the user and an event for the sysadmin; the container starts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from reconciler.host import journal, places
from reconciler.mounts.bind import Bind
from reconciler.mounts.tree import Tree
from reconciler.nvidia import nodes
from reconciler.nvidia.driver import Driver, driver
from state.errors import LxcGpuError
from state.view import Resident, View

READ_ONLY = ("ro", "nosuid", "nodev")
HOOK = f"{places.NVIDIA_INSIDE}/settle"
"""For lxc.hook.start: LXC insists that it is there, so it goes with the folder or not at all."""


@dataclass(frozen=True)
class Supply:
    """What the container's configuration needs, and what has to be said."""

    devices: tuple[Path, ...] = ()
    """The driver's device files on the server."""
    binds: tuple[Bind, ...] = ()
    hook: str = ""
    """Run inside before its init; empty: nothing to run."""
    notes: tuple[str, ...] = ()


def supply(view: View, user: str, resident: Resident) -> Supply:
    """What this start gives the container. On a server without the driver: nothing, at once."""
    there = driver()
    files, wrong = nodes.for_container(resident.gpus)
    binds = list[Bind]()
    problems = list(wrong)
    folder = None
    if there.present:
        from reconciler.nvidia import inner, placing  # not on the way of a start without a driver

        tree = Tree.of(view, user, resident)
        try:
            if view.driver == "mount" and (folder := placing.folder_for(there)):
                engines = inner.files(files, nodes.cards(), folder)
                placing.put_inside(tree, folder, engines)
            else:
                placing.take_out(tree)
        except LxcGpuError as error:
            folder = None
            problems.append(error)
        if view.driver == "mount" and there.upgraded:
            problems.append(_upgraded(there, folder))
    if folder:
        binds.append(Bind(folder, str(places.NVIDIA_INSIDE), READ_ONLY))
    return Supply(files, tuple(binds), HOOK if folder else "", noted(user, problems))


def _upgraded(there: Driver, folder: Path | None) -> LxcGpuError:
    """The server's own libraries don't fit its own module."""
    if folder and there.loaded and folder.name.startswith(f"{there.loaded}-"):
        return LxcGpuError(
            "driver-upgraded",
            f"NVIDIA's driver was upgraded to {there.installed}; this server will be restarted.",
            f"Until then your container has the libraries of {there.loaded}, which still fit.",
        )
    return LxcGpuError(
        "driver-differs",
        f"NVIDIA's driver {there.loaded} is loaded on this server, but its libraries are "
        f"{there.installed}: GPUs don't work until the server is restarted.",
        "Your sysadmin sees the same. Everything else in your container works.",
    )


def noted(user: str, problems: Iterable[LxcGpuError]) -> tuple[str, ...]:
    """What to tell the user; the sysadmin finds the same in the journal."""
    listed = tuple(problems)
    for error in listed:
        journal.event("driver", code=error.code, user=user, message=error.message)
    return tuple(f"{error.message} {error.hint}".rstrip() for error in listed)
