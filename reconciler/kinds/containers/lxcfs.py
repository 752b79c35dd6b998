"""The files of lxcfs in running containers: those of an lxcfs that has ended are replaced."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress

from reconciler.container.running import inits
from reconciler.host import places
from reconciler.mounts import lxcfs
from reconciler.plan import Change, Lock, Observed, Tell
from state.errors import LxcGpuError, os_error
from state.view import View

Unfit = frozenset[str]


class LxcfsKind:
    """Dead files of lxcfs in containers: none are wanted."""

    name = "lxcfs"
    lock = Lock.USER
    per_user = True

    def desired(self, view: View) -> Mapping[str, Unfit]:
        """None in any container."""
        return {}

    def observe(self, view: View, names: Collection[str]) -> Observed[Unfit]:
        """The containers with dead files. Only those that started before lxcfs are looked into."""
        current = lxcfs.alive()
        older = _started_before(lxcfs.SINCE.stat().st_mtime if current else None)
        found: dict[str, Unfit] = {}
        for name, init in inits([name for name in older if name in view.residents]).items():
            with suppress(OSError):  # it has ended
                found[name] = lxcfs.unfit(lxcfs.seen_by(init), current)
        return Observed({name: files for name, files in found.items() if files})

    def apply(
        self, view: View, changes: Sequence[Change[Unfit]], tell: Tell
    ) -> Mapping[str, LxcGpuError]:
        """Replace them by those of the running lxcfs, or else by the kernel's own."""
        failed: dict[str, LxcGpuError] = {}
        for change in changes:
            try:
                lxcfs.renew(change.name, change.before or frozenset())
            except (LxcGpuError, OSError) as error:
                failed[change.name] = os_error(error) if isinstance(error, OSError) else error
        return failed

    def describe(self, change: Change[Unfit]) -> str:
        """What people notice of it."""
        return f"have /proc/meminfo and the like of {change.name}'s container work again (lxcfs)"


def _started_before(moment: float | None) -> Iterator[str]:
    """The users whose containers started before that time (None: all), by their configuration."""
    for path in places.RUN.glob(places.container_config("*").name):
        with suppress(FileNotFoundError):
            if moment is None or path.stat().st_mtime < moment:
                yield path.name.removesuffix(path.suffix)
