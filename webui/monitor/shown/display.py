"""The monitor's cards: what each server does now, and its plots."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from jinja2 import Environment

from state.errors import LxcGpuError
from webui.clone.source import StateReading
from webui.monitor.heard.latest import LastHeard, Latest
from webui.monitor.past.records import Point
from webui.monitor.shown.cards import MonitorCard, card
from webui.monitor.shown.choice import in_order
from webui.monitor.shown.closed import closed_now, closed_times
from webui.monitor.shown.drawn import Drawn, FleetDrawer, Part
from webui.monitor.shown.people import People
from webui.monitor.shown.plots import lately

TEMPLATE = "_monitor.html"
MINUTE = 60
AGEING = 10
"""Seconds after which a silent server's card is drawn again: it says for how long it was silent."""
HOUR = 3600
DAY = 86_400
STEPS = ((HOUR, 60, "Last hour"), (DAY, 600, "Last day"))
"""For each plot: how many seconds it reaches back, how many seconds a step has, its title."""

PointsOf = Callable[[float, int], Mapping[str, Sequence[Point]]]
"""(since when, seconds of a step) -> the points of each server."""


@dataclass(frozen=True)
class Summary:
    """The whole fleet in a few words, whichever servers the page shows."""

    servers: int
    gpus: int
    """On servers that aren't silent."""
    free: tuple[tuple[str, int], ...]
    """Each server with free GPUs and how many it has, the most first."""
    silent: tuple[MonitorCard, ...]
    kept: int = 0
    """Reserved GPUs that do nothing."""

    @property
    def free_gpus(self) -> int:
        """On all servers."""
        return sum(count for _, count in self.free)


class Display(FleetDrawer):
    """Draws the cards of the monitor. A card changes with its server's load, and with its plots."""

    template = TEMPLATE

    def __init__(
        self,
        pages: Environment,
        latest: Latest,
        reading: Callable[[], StateReading],
        points: PointsOf,
        clock: Callable[[], float],
    ) -> None:
        super().__init__(pages, latest, reading, clock)
        self._points = points
        self._plots: dict[str, Part] = {}
        self._plots_of: tuple[int, frozenset[str]] = (0, frozenset())

    def _cards(
        self, reading: StateReading, people: People, heard: Mapping[str, LastHeard], now: float
    ) -> Mapping[str, Drawn]:
        self._draw_plots(frozenset(reading.state.servers), now)
        return {
            name: self._one(heard.get(name, LastHeard(name)), reading, people, now)
            for name in sorted(reading.state.servers, key=in_order)
        }

    def _one(self, heard: LastHeard, reading: StateReading, people: People, now: float) -> Drawn:
        server = heard.server
        plots = self._plots[server]

        def draw() -> Drawn:
            closed = closed_now(closed_times(reading.state, server), now)
            shown = card(heard, people, now, closed)
            parts = (self._part("now", server, shown), self._part("more", server, shown), plots)
            return Drawn(shown, parts)

        age = int(now // AGEING) if heard.silent_since is not None else 0
        key = (heard.version, reading.revision, age, plots)
        return self._draw_if_changed(server, key, draw)

    def _draw_plots(self, servers: frozenset[str], now: float) -> None:
        asked = (int(now // MINUTE), servers)
        if asked == self._plots_of:
            return
        self._plots_of = asked
        try:
            points = [(title, self._points(now - back, step)) for back, step, title in STEPS]
        except LxcGpuError:  # the history reports it itself; cards are of use without plots
            points = []
        for server in servers:
            shown = [lately(title, found.get(server, ())) for title, found in points]
            drawn = [each for each in shown if each.plots]
            self._plots[server] = self._part("lately", server, drawn)

    def _summary(self, cards: Sequence[MonitorCard]) -> Summary:
        free = [(each.server, each.free) for each in cards if each.free]
        return Summary(
            servers=len(cards),
            gpus=sum(each.gpus for each in cards if not each.old),
            free=tuple(sorted(free, key=lambda pair: -pair[1])),
            silent=tuple(each for each in cards if each.since is not None),
            kept=sum(each.kept for each in cards),
        )
