"""The reservations' cards: each server's next fortnight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from state.model.resources import Reservations
from state.wire.reserved import current, reserved_gpus
from state.wire.server_load import ServerLoad
from webui.clone.source import StateReading
from webui.monitor.fortnight.days import Window
from webui.monitor.fortnight.drawing import Fortnight, fortnight
from webui.monitor.heard.latest import LastHeard
from webui.monitor.shown.cards import MonitorCard
from webui.monitor.shown.choice import in_order
from webui.monitor.shown.closed import Closed, closed_now, closed_times
from webui.monitor.shown.drawn import Drawn, FleetDrawer
from webui.monitor.shown.people import People

TEMPLATE = "_fortnight.html"
STEP = 300
"""Seconds after which a drawing is made again, since time passes."""


@dataclass(frozen=True)
class Calendar:
    """What a page shows of one server's reservations."""

    server: str
    phase: str
    word: str
    fortnight: Fortnight | None
    """None: nothing is known."""
    command: str
    """An example of a command that reserves; empty if reserving is turned off."""
    since: float | None = None
    """Since when the server is silent, if it is; then everything here was true before that."""
    why: str = ""
    hint: str = ""
    gpus: int = 0
    open: int = 0
    """GPUs that aren't reserved now."""

    @property
    def card(self) -> MonitorCard:
        """The facts by which a page chooses and sorts servers."""
        lines = () if self.fortnight is None else self.fortnight.lines
        people = [line.person for line in lines if line.person]
        names = frozenset(text.casefold() for each in people for text in (each.user, each.name))
        models = [] if self.fortnight is None else [row.name for row in self.fortnight.rows]
        texts = "\n".join(sorted({text.casefold() for text in (self.server, *names, *models)}))
        return MonitorCard(
            self.server, self.phase, self.word, since=self.since, free=self.open,
            gpus=self.gpus, people=names, texts=texts,
        )  # fmt: skip


class Calendars(FleetDrawer):
    """Draws the reservations of all servers that have GPUs."""

    template = TEMPLATE

    def server(self, name: str) -> Drawn | None:
        """One server as it is now; None if it has no GPUs, or is unknown.

        LxcGpuError if the state was never read.
        """
        reading, heard = self._reading(), self._latest.all().get(name, LastHeard(name))
        if name not in reading.state.servers or not _has_gpus(heard):
            return None
        with self._lock:
            return self._one(heard, reading, People(reading.state), Window(self._clock()))

    def _cards(
        self, reading: StateReading, people: People, heard: Mapping[str, LastHeard], now: float
    ) -> Mapping[str, Drawn]:
        window, servers = Window(now), sorted(reading.state.servers, key=in_order)
        shown = [heard.get(name, LastHeard(name)) for name in servers]
        return {
            each.server: self._one(each, reading, people, window)
            for each in shown
            if _has_gpus(each)
        }

    def _one(
        self, heard: LastHeard, reading: StateReading, people: People, window: Window
    ) -> Drawn:
        server, load, now = heard.server, heard.load, window.now
        closed = closed_times(reading.state, server)

        def draw() -> Drawn:
            rules = reading.state.servers[server].reservations
            shown = calendar(heard, closed, rules, people, window)
            parts = (self._part("calendar", server, shown), self._part("booked", server, shown))
            return Drawn(shown.card, parts)

        known = None if load is None else (load.reservations, current(load, now), _which(load))
        silent = (heard.silent_since, heard.why, heard.hint)
        key = (known, closed_now(closed, now), silent, reading.revision, int(now // STEP))
        return self._draw_if_changed(server, key, draw)


def calendar(
    seen: LastHeard, closed: Sequence[Closed], rules: Reservations, people: People, window: Window
) -> Calendar:
    """What to show of one server's reservations. Pure."""
    load, silent = seen.load, seen.silent_since
    if load is None:
        phase, word = ("never", "not heard") if silent is not None else ("waiting", "not heard yet")
        return Calendar(seen.server, phase, word, None, "", silent, seen.why, seen.hint)
    gpus, reserved = len(load.gpus), len(reserved_gpus(load, window.now))
    if silent is not None:
        phase, word = "silent", "silent"
    elif closed_now(closed, window.now):
        phase, word, reserved = "full", "closed now", gpus
    elif not gpus:
        phase, word = "plain", "GPUs not known"
    else:
        phase = "full" if reserved == gpus else "free"
        word = f"{reserved} of {gpus} reserved now" if reserved else "none reserved now"
    return Calendar(
        server=seen.server,
        phase=phase,
        word=word,
        fortnight=fortnight(load, people, window, closed),
        command=command(seen, rules),
        since=silent,
        why=seen.why,
        hint=seen.hint,
        gpus=gpus,
        open=0 if silent is not None else gpus - reserved,
    )


def _has_gpus(seen: LastHeard) -> bool:
    """Whether the server has GPUs; True if nothing is known about it."""
    return seen.load is None or bool(seen.load.gpus or seen.load.gpu_problem)


def command(seen: LastHeard, rules: Reservations) -> str:
    """A command that reserves GPUs there; empty if reserving is turned off."""
    gpus = 0 if seen.load is None else len(seen.load.gpus)
    if not gpus or not rules.most:
        return ""
    most = rules.most_gpus or max(1, gpus // 2)
    return f"ssh {seen.server}-manage reserve {min(2, most, gpus)} {min(8, rules.longest)}h"


def _which(load: ServerLoad) -> object:
    """The facts about GPUs that are in a drawing."""
    return tuple(
        (gpu.index, gpu.uuid, gpu.name, [part.uuid for part in gpu.mig]) for gpu in load.gpus
    )
