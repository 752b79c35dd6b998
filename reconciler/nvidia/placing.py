"""Have a container's loader and search path find the driver's libraries and tools.

Written below its file system as its root, no link followed; its owner's own things stay.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath

from reconciler.children import hostile
from reconciler.host import places
from reconciler.mounts.tree import Tree
from reconciler.nvidia import inner, kept
from reconciler.nvidia.driver import Driver


def folder_for(there: Driver) -> Path | None:
    """The libraries of the loaded version; else those that are installed."""
    for version in (there.loaded, there.installed):
        if version and (folder := kept.folder_for(version, there.installed)):
            return folder
    return None


def put_inside(tree: Tree, folder: Path, inner_files: Mapping[str, str | None]) -> None:
    """Have the container's loader and search path find the libraries and tools, and its engines.

    HostileError if something of its owner's is in the way of the first two.
    """
    conf = f"# Written by lxc-gpu: {folder.name}\n{places.NVIDIA_INSIDE}/lib\n"
    links = _links(folder)

    def work(root: int) -> None:
        with hostile.opened_folder(root, places.NVIDIA_INSIDE.relative_to("/"), make=0o755):
            path = PurePosixPath(kept.CONF)
        if hostile.read_below(root, path) != conf:
            for place, target in links.items():
                _link_below(root, PurePosixPath(place), target)
            hostile.write_below(root, path, conf, 0o644, folder_mode=0o755)
        inner.put(root, inner_files)

    hostile.as_owner(tree, tree.first, work)


def take_out(tree: Tree) -> None:
    """Remove our files for engines from a container that gets no libraries: they would fail."""
    hostile.as_owner(tree, tree.first, lambda root: inner.put(root, inner.NOTHING))


def _links(folder: Path) -> dict[str, str]:
    """By their places inside: tools on everybody's search path, extras where they belong."""
    inside = places.NVIDIA_INSIDE
    tools = {f"usr/local/bin/{t.name}": f"{inside}/bin/{t.name}" for t in folder.glob("bin/*")}
    extras = {
        path: f"{inside}/files/{path}"
        for path in kept.EXTRAS
        if (folder / "files" / path).is_file()
    }
    return tools | extras


def _link_below(root: int, path: PurePosixPath, target: str) -> None:
    """A link, unless its owner has something of their own there."""
    with hostile.opened_folder(root, path.parent, make=0o755) as folder:
        with suppress(FileNotFoundError, OSError):
            if os.readlink(path.name, dir_fd=folder).startswith(str(places.NVIDIA_INSIDE)):
                os.unlink(path.name, dir_fd=folder)
        with suppress(FileExistsError):
            os.symlink(target, path.name, dir_fd=folder)
