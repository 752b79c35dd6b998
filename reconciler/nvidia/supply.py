"""What a start gives a container of NVIDIA's driver: device files, and the libraries that fit.

Whatever is wrong becomes a note for the user and an event for the sysadmin; the container starts.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from reconciler import hostile, journal
from reconciler.lxc_config import Bind, rootfs
from reconciler.nvidia import kept, nodes
from reconciler.nvidia.versions import Driver, driver
from state.errors import LxcGpuError
from state.view import Resident, View

READ_ONLY = ("ro", "nosuid", "nodev")
HOOK = f"{kept.INSIDE}/settle"
"""For lxc.hook.start: LXC insists that it is there, so it goes with the folder or not at all."""


@dataclass(frozen=True)
class Supply:
    """What the container's configuration needs, and what has to be said."""

    binds: tuple[Bind, ...] = ()
    hook: str = ""
    """Run inside before its init; empty: nothing to run."""
    notes: tuple[str, ...] = ()


def supply(view: View, user: str, resident: Resident) -> Supply:
    """What this start gives the container. On a server without the driver: nothing, at once."""
    there = driver()
    files, wrong = nodes.for_container(resident.gpus)
    binds = [Bind(node, str(node), ("optional",)) for node in files]
    problems = list(wrong)
    folder = None
    if view.driver == "mount":
        try:
            if folder := _folder(there):
                _put_inside(rootfs(view, user), resident.subid, folder)
        except LxcGpuError as error:
            folder = None
            problems.append(error)
        if there.upgraded:
            problems.append(_upgraded(there, folder))
    if folder:
        binds.append(Bind(folder, str(kept.INSIDE), READ_ONLY))
    return Supply(tuple(binds), HOOK if folder else "", noted(user, problems))


def _folder(there: Driver) -> Path | None:
    """The libraries of the loaded version; else those that are installed."""
    for version in (there.loaded, there.installed):
        if version and (folder := kept.folder_for(version, there.installed)):
            return folder
    return None


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


def _put_inside(root_folder: Path, subid: int, folder: Path) -> None:
    """Have the container's loader and search path find the libraries and tools.

    HostileError if something of its owner's is in the way.
    """
    conf = f"# Written by lxc-gpu: {folder.name}\n{kept.INSIDE}/lib\n"
    links = _links(folder)

    def work(root: int) -> None:
        with hostile.opened_folder(root, kept.INSIDE.relative_to("/"), make=0o755):
            path = PurePosixPath(kept.CONF)
        with suppress(FileNotFoundError):
            if hostile.read_below(root, path) == conf:
                return
        for place, target in links.items():
            _link_below(root, PurePosixPath(place), target)
        hostile.write_below(root, path, conf, 0o644, folder_mode=0o755)

    hostile.as_owner(root_folder, subid, work)


def _links(folder: Path) -> dict[str, str]:
    """By their places inside: tools on everybody's search path, extras where they belong."""
    tools = {f"usr/local/bin/{t.name}": f"{kept.INSIDE}/bin/{t.name}" for t in folder.glob("bin/*")}
    extras = {
        path: f"{kept.INSIDE}/files/{path}"
        for path in kept.EXTRAS
        if (folder / "files" / path).is_file()
    }
    return tools | extras


def _link_below(root: int, path: PurePosixPath, target: str) -> None:
    """A link, unless its owner has something of their own there."""
    with hostile.opened_folder(root, path.parent, make=0o755) as folder:
        with suppress(FileNotFoundError, OSError):
            if os.readlink(path.name, dir_fd=folder).startswith(str(kept.INSIDE)):
                os.unlink(path.name, dir_fd=folder)
        with suppress(FileExistsError):
            os.symlink(target, path.name, dir_fd=folder)
