"""The cards as HTML, for all browsers together: each is drawn once when it changes.

Every browser asks for all of them every few seconds; drawing is what would cost, so what was drawn
stays until the server's load, the minute of its plots or the names of people change.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock

from jinja2 import Environment

from state.errors import LxcGpuError
from webui.clone.source import Reading
from webui.monitor.heard.latest import LastHeard, Latest
from webui.monitor.past.records import Point
from webui.monitor.shown.cards import MonitorCard, card
from webui.monitor.shown.choice import in_order
from webui.monitor.shown.closed import closed_now, closed_times
from webui.monitor.shown.people import People
from webui.monitor.shown.plots import lately

TEMPLATE = "_monitor.html"
MINUTE = 60
AGEING = 10
"""Seconds after which words for how long something has lasted are chosen again."""
HOUR = 3600
DAY = 86_400
STEPS = ((HOUR, 60, "Last hour"), (DAY, 600, "Last day"))
"""Seconds that a plot reaches back, seconds of a step, its title."""

INDENT = re.compile(r"\s*\n\s*")
"""What the template's own layout leaves: a fifth of everything, for each browser, every time."""

PointsOf = Callable[[float, int], Mapping[str, Sequence[Point]]]
"""Since when, and the seconds of a step, -> the points of each server."""


@dataclass(frozen=True)
class Part:
    """A piece of a card, which changes as a whole."""

    id: str
    html: str
    json: str
    """The same, as a JSON string."""


@dataclass(frozen=True)
class Drawn:
    """One server's card."""

    card: MonitorCard
    parts: tuple[Part, ...]
    """What it does, more of that, its plots."""


@dataclass(frozen=True)
class Summary:
    """The whole fleet in a few words, whatever the page is asked for."""

    servers: int
    gpus: int
    """Of servers that aren't silent."""
    free: tuple[tuple[str, int], ...]
    """Servers with free GPUs, the most first, and how many."""
    silent: tuple[MonitorCard, ...]
    kept: int = 0
    """GPUs that do nothing, and are reserved."""

    @property
    def free_gpus(self) -> int:
        """On all servers."""
        return sum(count for _, count in self.free)


@dataclass(frozen=True)
class DrawnFleet:
    """All servers, drawn."""

    cards: Mapping[str, Drawn]
    """By name, in order."""
    summary: Part
    at: float
    """When they were looked at, by our clock."""


class Display:
    """Draws what `latest` has, of the servers of the state; for many threads."""

    def __init__(
        self,
        pages: Environment,
        latest: Latest,
        reading: Callable[[], Reading],
        points: PointsOf,
        clock: Callable[[], float],
    ) -> None:
        self._pages = pages
        self._latest = latest
        self._reading = reading
        self._points = points
        self._clock = clock
        self._lock = Lock()  # for everything below
        self._drawn: dict[str, tuple[object, Drawn]] = {}
        self._plots: dict[str, Part] = {}
        self._plots_of: tuple[int, frozenset[str]] = (0, frozenset())
        self._fleet: DrawnFleet | None = None

    def fleet(self, oldest: float = 0.0) -> DrawnFleet:
        """All servers, as they were `oldest` seconds ago or later.

        LxcGpuError if the state was never read.
        """
        known = self._fleet
        if known is not None and 0 <= self._clock() - known.at < oldest:
            return known
        reading = self._reading()
        people = People(reading.state)
        seen = self._latest.all()
        with self._lock:
            now = self._clock()
            self._draw_plots(frozenset(reading.state.servers), now)
            cards = {
                name: self._one(seen.get(name, LastHeard(name)), reading, people, now)
                for name in sorted(reading.state.servers, key=in_order)
            }
            self._drawn = {name: self._drawn[name] for name in cards}
            summary = _summary([each.card for each in cards.values()])
            words = part("summary", self._macro("summary")(summary))
            self._fleet = DrawnFleet(cards, words, now)
            return self._fleet

    def _one(self, seen: LastHeard, reading: Reading, people: People, now: float) -> Drawn:
        plots = self._plots[seen.server]
        age = int(now // AGEING) if seen.silent_since is not None else 0
        key = (seen.version, reading.revision, age, plots)
        before = self._drawn.get(seen.server)
        if before is not None and before[0] == key:
            return before[1]
        shown = card(seen, people, now, closed_now(closed_times(reading.state, seen.server), now))
        drawn = Drawn(shown, (self._part("now", shown), self._part("more", shown), plots))
        self._drawn[seen.server] = (key, drawn)
        return drawn

    def _draw_plots(self, servers: frozenset[str], now: float) -> None:
        asked = (int(now // MINUTE), servers)
        if asked == self._plots_of:
            return
        self._plots_of = asked
        try:
            points = [(title, self._points(now - back, step)) for back, step, title in STEPS]
        except LxcGpuError:  # the history says so itself; what is now is worth showing without it
            points = []
        for server in servers:
            shown = [lately(title, found.get(server, ())) for title, found in points]
            html = self._macro("lately")([each for each in shown if each.plots])
            self._plots[server] = part(f"lately-{server}", html)

    def _part(self, macro: str, shown: MonitorCard) -> Part:
        return part(f"{macro}-{shown.server}", self._macro(macro)(shown))

    def _macro(self, name: str) -> Callable[[object], str]:
        macro: Callable[[object], str] = getattr(self._pages.get_template(TEMPLATE).module, name)
        return macro


def part(name: str, html: str) -> Part:
    """A piece as it is sent: without the template's own layout."""
    text = INDENT.sub("\n", str(html)).strip()
    return Part(name, text, json.dumps(text, ensure_ascii=False))


def _summary(cards: Sequence[MonitorCard]) -> Summary:
    free = [(each.server, each.free) for each in cards if each.free]
    return Summary(
        servers=len(cards),
        gpus=sum(each.gpus for each in cards if not each.old),
        free=tuple(sorted(free, key=lambda pair: -pair[1])),
        silent=tuple(each for each in cards if each.since is not None),
        kept=sum(each.kept for each in cards),
    )
