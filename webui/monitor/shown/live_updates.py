"""The events for one browser: each has only what changed since the one before."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from state.errors import LxcGpuError
from webui.live import PULSE, STILL_HERE
from webui.monitor.heard.latest import Latest
from webui.monitor.shown.choice import Choice, chosen
from webui.monitor.shown.drawn import Drawn, DrawnFleet

PACE = 2.0
"""Seconds between two events."""
CALM = 20.0
"""Seconds for which cards keep their places. Sorted by changing numbers, they would jump."""
LONGEST = 3600.0
"""Seconds after which a stream ends. Browsers connect again, except for forgotten pages."""
FEW = 4
"""Up to this many servers, all cards are shown open."""

WholeCard = Callable[[Drawn, bool], str]
"""(card, whether it is open) -> the card as HTML."""


@dataclass
class BrowserView:
    """What one browser wants to show, and what it shows."""

    wanted: Choice
    whole: WholeCard
    _sent: dict[str, Drawn] = field(default_factory=dict)
    _order: tuple[str, ...] | None = None
    _ordered: float = 0.0
    _summary: str = ""
    _count: str | None = None

    def changes(self, fleet: DrawnFleet, now: float) -> str:
        """The event that makes the browser show `fleet`; empty if nothing changed for it."""
        shown = chosen((each.card for each in fleet.cards.values()), self.wanted)
        order = self._kept_order(tuple(card.server for card in shown), now)
        cards, parts = [], []
        for name in order:
            drawn, before = fleet.cards[name], self._sent.get(name)
            if before is None:
                html = self.whole(drawn, is_open(fleet))
                cards.append(f"{json.dumps(name)}:{json.dumps(html)}")
            elif before is not drawn:
                pairs = zip(before.parts, drawn.parts, strict=True)
                parts += [f"{json.dumps(p.id)}:{p.json}" for old, p in pairs if old.html != p.html]
        count = counted(len(order), len(fleet.cards))
        fields = [
            *([f'"cards":{{{",".join(cards)}}}'] if cards else []),
            *([f'"parts":{{{",".join(parts)}}}'] if parts else []),
            *([f'"order":{json.dumps(order)}'] if order != self._order else []),
            *([f'"summary":{fleet.summary.json}'] if fleet.summary.html != self._summary else []),
            *([f'"count":{json.dumps(count)}'] if count != self._count else []),
        ]
        self._sent = {name: fleet.cards[name] for name in order}
        self._order, self._summary, self._count = order, fleet.summary.html, count
        return f"event: fleet\ndata: {{{','.join(fields)}}}\n\n" if fields else ""

    def _kept_order(self, order: tuple[str, ...], now: float) -> tuple[str, ...]:
        before = self._order
        same = before is not None and set(before) == set(order)
        if before is not None and same and now - self._ordered < CALM:
            return before
        self._ordered = now
        return order


def is_open(fleet: DrawnFleet) -> bool:
    """Whether cards are shown open."""
    return len(fleet.cards) <= FEW


def counted(shown: int, servers: int) -> str:
    """How many servers a page shows, in words; empty if it shows all."""
    return "" if shown == servers else f"{shown} of {servers} servers are shown."


def events(view: BrowserView, latest: Latest, look: Callable[[], DrawnFleet]) -> Iterator[str]:
    """The events for the browser of `view`."""
    deadline = time.monotonic() + LONGEST
    version, spoke = -1, time.monotonic()
    while time.monotonic() < deadline:
        try:
            event = view.changes(look(), time.monotonic())
        except LxcGpuError:
            return  # the browser loads the page again, which says why
        if event:
            spoke = time.monotonic()
            yield event
        elif time.monotonic() - spoke >= PULSE:
            spoke = time.monotonic()
            yield STILL_HERE
        time.sleep(PACE)
        version, _ = latest.wait(version, PULSE - PACE)
