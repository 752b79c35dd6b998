"""The sources of mounts, mounted once more for containers, with flags nobody inside can take off.

Sources are the sysadmin's: lxc-gpu neither makes them nor changes their modes. One that is missing,
not mounted or open to the wrong people is reported, with what to type, and left out.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from reconciler.children import hostile
from reconciler.host import places
from reconciler.mounts import sources as mounts
from reconciler.mounts.locked_mount import mount_locked, unmount
from reconciler.plan import Change, Lock, Observed, Tell
from state.errors import LxcGpuError
from state.view import View

Flags = tuple[str, ...]


class MountKind:
    """Sources of mounts, by their path."""

    name = "mount"
    lock = Lock.GLOBAL
    per_user = False

    def desired(self, view: View) -> Mapping[str, Flags]:
        """Every source that a container of this server may see."""
        return {s: mounts.FLAGS[mount.access] for s, mount in mounts.all_mounts(view).items()}

    def observe(self, view: View, names: Collection[str]) -> Observed[Flags]:
        """The sources among `names` that are in order, and mounts of ours that nobody wants."""
        wanted, there = mounts.all_mounts(view), mounts.mounted()
        found: dict[str, Flags] = {s: tuple(there[s]) for s in there.keys() - wanted.keys()}
        unreadable: dict[str, LxcGpuError] = {}
        for source in wanted.keys() & frozenset(names):
            try:
                seen = mounts.examined(wanted[source])
                same = source in there and mounts.look(mounts.place(source)).place == seen.place
            except LxcGpuError as error:
                unreadable[source] = error
                continue
            flags = mounts.FLAGS[wanted[source].access]
            if wanted[source].access == "home":  # mounted one by one, by the kind `old_home`
                found[source] = () if source in there else flags  # had another access before
                continue
            if same and there[source] >= frozenset(flags):
                found[source] = flags
            elif source in there:
                found[source] = ()
        return Observed(found, unreadable)

    def apply(
        self, view: View, changes: Sequence[Change[Flags]], tell: Tell
    ) -> Mapping[str, LxcGpuError]:
        """Mount sources, or unmount them; running containers keep what they see."""
        failed: dict[str, LxcGpuError] = {}
        wanted = mounts.all_mounts(view)
        places.MOUNTS.mkdir(mode=0o711, exist_ok=True)
        for change in changes:
            place = mounts.place(change.name)
            try:
                if change.before is not None:
                    unmount(place)
                if change.after is not None and wanted[change.name].access != "home":
                    _mount(change.name, place, change.after)
                else:
                    place.rmdir()
            except OSError as error:
                failed[change.name] = LxcGpuError(
                    "mount",
                    f"{change.name} can't be mounted for containers: {error.strerror}.",
                    f"Sysadmin: `findmnt --target {change.name}`; `dmesg` may say more.",
                )
            except LxcGpuError as error:
                failed[change.name] = error
        return failed

    def describe(self, change: Change[Flags]) -> str:
        """E.g. `let containers see /srv/data (nodev, nosuid, ro)`."""
        if change.after is None:
            return f"let no container see {change.name} any more"
        return f"let containers see {change.name} ({', '.join(change.after)})"


def _mount(source: str, place: Path, flags: Flags) -> None:
    place.mkdir(mode=0o755, exist_ok=True)
    hostile.as_owner(Path(source), 0, lambda folder: mount_locked(folder, place, flags))
