"""The folder of the containers: marked as this server's own before anything is made in it.

If the marker is missing and may not be made (`reconciler.host.marker`), this kind reports that, and
the kinds that work below the folder leave it alone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from reconciler.host import marker
from reconciler.plan import Change, Lock, Observed, Tell
from state.errors import LxcGpuError
from state.view import View


class MarkedFolder(NamedTuple):
    """A folder that is marked as this server's."""

    known: str
    """Where the server last knew its containers to be: another folder after they were moved."""


class ContainersFolderKind:
    """The one folder, by its path."""

    name = "containers_folder"
    lock = Lock.GLOBAL
    per_user = False

    def desired(self, view: View) -> Mapping[str, MarkedFolder]:
        """The folder that the state names."""
        return {view.containers: MarkedFolder(view.containers)}

    def observe(self, view: View, names: Collection[str]) -> Observed[MarkedFolder]:
        """Whether it is marked; unreadable if it is not and may not be."""
        try:
            there = marker.look(view)
            if not there.settled(view) or there.record is None:
                return Observed({})
        except LxcGpuError as error:
            return Observed({}, {view.containers: error})
        return Observed({view.containers: MarkedFolder(there.record.folder)})

    def apply(
        self, view: View, changes: Sequence[Change[MarkedFolder]], tell: Tell
    ) -> Mapping[str, LxcGpuError]:
        """Mark it, or note that the containers were moved."""
        try:
            marker.mark(view)
        except LxcGpuError as error:
            return {change.name: error for change in changes}
        return {}

    def describe(self, change: Change[MarkedFolder]) -> str:
        """E.g. `mark /srv/containers as the folder of this server's containers`."""
        if change.before is not None:
            return f"take the containers to be in {change.name}, no longer in {change.before.known}"
        return f"mark {change.name} as the folder of this server's containers"
