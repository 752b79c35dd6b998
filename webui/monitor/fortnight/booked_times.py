"""Reservations in words: for whom, which GPUs, from when until when. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from state.wire.server_load import GpuLoad, ServerLoad
from webui.monitor.fortnight.days import Window
from webui.monitor.shown.amounts import ranges
from webui.monitor.shown.closed import Closed
from webui.monitor.shown.people import NamedPerson, People
from webui.words import clock

MOST_INTRUDERS = 20
"""Intruders of one reservation who are named, at most."""


@dataclass(frozen=True)
class BookedTime:
    """One reservation, or one time for which the server is closed."""

    begins: float
    ends: float
    begins_words: str
    ends_words: str
    now: bool
    """Whether it has begun."""
    person: NamedPerson | None = None
    """None: the server is closed."""
    text: str = ""
    """Why the server is closed."""
    uuids: frozenset[str] = frozenset()
    gpus: str = ""
    unused_since: float | None = None
    intruders: tuple[NamedPerson, ...] = ()

    @property
    def unused(self) -> bool:
        """Whether the person doesn't use the reserved GPUs."""
        return self.unused_since is not None

    @property
    def words(self) -> str:
        """All of it in one line."""
        who = self.person.name if self.person else f"Maintenance ({self.text})"
        gpus = f": GPU {self.gpus}" if self.gpus else ""
        unused = ", not in use" if self.unused else ""
        return f"{who}{gpus}, {self.begins_words} to {self.ends_words}{unused}"


def lines(
    load: ServerLoad, people: People, window: Window, closed: Iterable[Closed] = ()
) -> tuple[BookedTime, ...]:
    """The reservations in `load`, and the times that are closed, sorted by their beginning."""
    named = _Gpus(load.gpus)

    def line(begins: float, ends: float, **more: Any) -> BookedTime:
        first, last = (clock(moment, window.now, window.zone) for moment in (begins, ends))
        return BookedTime(begins, ends, first, last, begins <= window.now, **more)

    reserved = [
        line(
            each.begins,
            each.ends,
            person=people.named(each.user),
            uuids=frozenset(each.gpus),
            gpus=named.words(each.gpus),
            unused_since=each.unused_since,
            intruders=tuple(people.named(user) for user in each.intruders[:MOST_INTRUDERS]),
        )
        for each in load.reservations
        if window.shows(each.begins, each.ends)
    ]
    closings = [
        line(each.begins, each.ends, text=each.text)
        for each in closed
        if window.shows(each.begins, each.ends)
    ]
    return tuple(sorted((*reserved, *closings), key=lambda each: each.begins))


class _Gpus:
    """Names for the GPUs of a server."""

    def __init__(self, gpus: Sequence[GpuLoad]) -> None:
        self._whole = {gpu.uuid: gpu.index for gpu in gpus}
        self._parts = {part.uuid: f"{g.index} ({part.name})" for g in gpus for part in g.mig}

    def words(self, reserved: Iterable[str]) -> str:
        """The names of `reserved`: 0-3, 5; for MIG instances 0 (1g.10gb); for lost GPUs 1 gone."""
        wanted = set(reserved)
        whole = ranges(self._whole[uuid] for uuid in wanted & self._whole.keys())
        parts = sorted(self._parts[uuid] for uuid in wanted & self._parts.keys())
        gone = len(wanted - self._whole.keys() - self._parts.keys())
        return ", ".join([*([whole] if whole else []), *parts, *([f"{gone} gone"] if gone else [])])
