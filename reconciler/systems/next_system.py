"""Sources of a container's next system: a snapshot, a pipe, the template."""

from __future__ import annotations

import stat
from contextlib import suppress
from dataclasses import dataclass

from reconciler.archives.copying import copy
from reconciler.archives.extract import PackedSystem, extract
from reconciler.archives.id_map import IdMapOwner
from reconciler.disk.free_space import require_space, used
from reconciler.mounts.tree import RAW, Tree
from reconciler.plan import Tell
from reconciler.snapshots import copies
from reconciler.snapshots.copies import Copy
from reconciler.snapshots.user_archives import Snapshot, damaged, no_such
from reconciler.spares import store
from reconciler.systems import from_template
from reconciler.systems.fitting import check_system
from state import command
from state.errors import LxcGpuError
from state.view import Resident, View
from state.wire.messages import Progress


@dataclass(frozen=True)
class FromArchive:
    """Makes a system from an archive that somebody packed: hostile."""

    user: str
    descriptor: int
    """The archive, to be read once."""
    snapshot: Snapshot | None
    """What is known of the archive; None if it comes from a pipe."""
    tell: Tell

    def __call__(self, view: View, resident: Resident, tree: Tree) -> None:
        """Unpack the archive. LxcGpuError if it doesn't contain a system."""
        what, there = "the archive", self.snapshot
        if there is not None:
            what = f"the snapshot {there.name}"
            store.give_way(view, there.unpacked)
            require_space(tree.slot, there.unpacked, f"The snapshot {there.name}")
        source = PackedSystem(self.descriptor, what, None if there is None else there.packed)
        digest = extract(source, tree, IdMapOwner.of(view, self.user, resident), self.tell)
        if there is not None and digest != there.sha256:
            raise damaged(there, digest)
        # the archive may have other permissions for its outermost folder
        tree.keep_top()
        check_system(tree, what)


@dataclass(frozen=True)
class FromCopy:
    """Makes a system of a copy on the same disk."""

    user: str
    copied: Copy

    def __call__(self, view: View, resident: Resident, tree: Tree) -> None:
        """Make a writable copy. LxcGpuError if the original is gone, or isn't a system."""
        name = self.copied.name
        if copies.copy_of(view, self.user, name) != self.copied:
            raise no_such(view, self.user, name)
        with suppress(FileNotFoundError):  # it is to be a shifted system
            (tree.slot / RAW).rmdir()
        tree.slot.rmdir()
        there = copies.slot_of(view, self.user, name)
        copies.copy(there, tree.slot, resident.uid, read_only=False)
        tree.keep_top()
        check_system(tree, f"the snapshot {name}")


@dataclass(frozen=True)
class FromTemplate:
    """Makes a system from the template, as at the first registration."""

    user: str
    template: str
    tell: Tell

    def __call__(self, view: View, resident: Resident, tree: Tree) -> None:
        """Unpack the template and make the user."""
        from_template.fresh_system(view, self.user, resident, tree, self.tell, self.template)


@dataclass(frozen=True)
class WithHome:
    """Copies /home from the system in place, while the container is down.

    It is copied, not moved: so both systems stay complete whatever happens, and undo brings
    everything back. If the file system can share blocks (cp(1), --reflink), that costs neither
    time nor space.
    """

    user: str
    tell: Tell

    def __call__(self, view: View, resident: Resident, tree: Tree) -> None:
        """Copy it as the container's root, with owners, links, attributes and access lists."""
        current, folder = Tree.of(view, self.user, resident), tree.slot
        home = current.top / "home"
        if not stat.S_ISDIR(home.lstat().st_mode):
            raise LxcGpuError("no-home", "/home in your container isn't a folder, so it can't be "
                              "kept.", "Nothing was changed.")  # fmt: skip
        self.tell(Progress("looking how large /home is"))
        size = used(home)
        store.give_way(view, size)
        require_space(folder, size, "Your /home")
        owner = IdMapOwner.of(view, self.user, resident)
        rm = ["rm", "--recursive", "--force", "--", f"{folder}/home"]
        command.run(owner.fenced(folder, rm, tree))
        argv = ["cp", "--archive", "--reflink=auto", "--no-target-directory", "--",
                f"{current.slot}/home", f"{folder}/home"]  # fmt: skip
        copy(owner.fenced(folder, argv, tree, current), folder, "/home", self.tell, size)
