"""Cards as HTML, for all browsers together: each is drawn again only when it has changed.

Every browser asks for all cards every few seconds. Drawing them each time would cost the most, so
what was drawn is kept.
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import ClassVar

from jinja2 import Environment

from webui.clone.source import StateReading
from webui.monitor.heard.latest import LastHeard, Latest
from webui.monitor.shown.cards import MonitorCard
from webui.monitor.shown.people import People

_INDENT = re.compile(r"\s*\n\s*")
"""The template's own layout: a fifth of all bytes that each browser is sent."""


@dataclass(frozen=True)
class Part:
    """A piece of a card, which changes as a whole."""

    id: str
    html: str
    json: str
    """`html` as a JSON string."""


@dataclass(frozen=True)
class Drawn:
    """One server's card."""

    card: MonitorCard
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class DrawnFleet:
    """The cards of all servers."""

    cards: Mapping[str, Drawn]
    """By the server's name, in the order of a page."""
    summary: Part
    at: float
    """When the servers' loads were read, by our clock."""


class FleetDrawer(ABC):
    """Draws the state's servers with the macros of one template. Thread-safe.

    Each subclass draws one kind of card.
    """

    template: ClassVar[str]

    def __init__(
        self,
        pages: Environment,
        latest: Latest,
        reading: Callable[[], StateReading],
        clock: Callable[[], float],
    ) -> None:
        self._pages = pages
        self._latest = latest
        self._reading = reading
        self._clock = clock
        self._lock = Lock()  # for everything below, and in subclasses
        self._drawn: dict[str, tuple[object, Drawn]] = {}
        self._fleet: DrawnFleet | None = None

    def fleet(self, oldest: float = 0.0) -> DrawnFleet:
        """All servers, as they were at most `oldest` seconds ago.

        LxcGpuError if the state was never read.
        """
        known = self._fleet
        if known is not None and 0 <= self._clock() - known.at < oldest:
            return known
        reading = self._reading()
        people, heard = People(reading.state), self._latest.all()
        with self._lock:
            now = self._clock()
            cards = self._cards(reading, people, heard, now)
            self._drawn = {name: self._drawn[name] for name in cards}
            summary = self._macro("summary")(self._summary([each.card for each in cards.values()]))
            self._fleet = DrawnFleet(cards, part("summary", summary), now)
            return self._fleet

    @abstractmethod
    def _cards(
        self, reading: StateReading, people: People, heard: Mapping[str, LastHeard], now: float
    ) -> Mapping[str, Drawn]:
        """The cards by server, in the order of a page, each drawn by `_draw_if_changed`."""

    def _summary(self, cards: Sequence[MonitorCard]) -> object:
        """What the template's macro `summary` takes."""
        return cards

    def _draw_if_changed(self, server: str, key: object, draw: Callable[[], Drawn]) -> Drawn:
        """The card that was drawn for this `key`; if the key is another one, a new card."""
        before = self._drawn.get(server)
        if before is not None and before[0] == key:
            return before[1]
        drawn = draw()
        self._drawn[server] = (key, drawn)
        return drawn

    def _part(self, macro: str, server: str, shown: object) -> Part:
        return part(f"{macro}-{server}", self._macro(macro)(shown))

    def _macro(self, name: str) -> Callable[[object], str]:
        module = self._pages.get_template(self.template).module
        macro: Callable[[object], str] = getattr(module, name)
        return macro


def part(name: str, html: str) -> Part:
    """A piece as it is sent: without the template's own layout."""
    text = _INDENT.sub("\n", str(html)).strip()
    return Part(name, text, json.dumps(text, ensure_ascii=False))
