"""What a browser is told: what changed for it, and nothing else."""

from __future__ import annotations

import json
from typing import Any

from webui.monitor.shown.cards import MonitorCard
from webui.monitor.shown.choice import Choice, SortOrder
from webui.monitor.shown.drawn import Drawn, DrawnFleet, Part
from webui.monitor.shown.live_updates import CALM, BrowserView, counted


def part(name: str, html: str) -> Part:
    return Part(name, html, json.dumps(html))


def drawn(server: str, html: str = "a", **fields: Any) -> Drawn:
    parts = (
        part(f"now-{server}", html),
        part(f"more-{server}", "m"),
        part(f"lately-{server}", "l"),
    )
    return Drawn(MonitorCard(server, "free", "free", **fields), parts)


def fleet(*cards: Drawn, summary: str = "s") -> DrawnFleet:
    return DrawnFleet({each.card.server: each for each in cards}, part("summary", summary), 0.0)


def watcher(wanted: Choice = Choice()) -> BrowserView:  # noqa: B008
    return BrowserView(wanted, lambda each, _: f"card of {each.card.server}: {each.parts[0].html}")


def told(event: str) -> dict[str, Any]:
    kind, _, rest = event.partition("\n")
    assert kind == "event: fleet"
    assert rest.endswith("\n\n")
    assert rest.count("\n") == 2
    data: dict[str, Any] = json.loads(rest.removeprefix("data: "))
    return data


def test_first_everything_then_only_the_parts_that_changed() -> None:
    one, two = drawn("gpu17"), drawn("gpu18")
    browser = watcher()
    assert told(browser.changes(fleet(one, two), 0)) == {
        "cards": {"gpu17": "card of gpu17: a", "gpu18": "card of gpu18: a"},
        "order": ["gpu17", "gpu18"],
        "summary": "s",
        "count": "",
    }
    assert browser.changes(fleet(one, two), 2) == ""
    assert browser.changes(fleet(drawn("gpu17"), two), 3) == ""  # drawn again, the same
    assert told(browser.changes(fleet(one, drawn("gpu18", "b\n")), 4)) == {
        "parts": {"now-gpu18": "b\n"}
    }


def test_a_server_that_comes_or_goes() -> None:
    one, two = drawn("gpu17"), drawn("gpu18")
    browser = watcher()
    browser.changes(fleet(one), 0)
    come = told(browser.changes(fleet(one, two), 1))
    assert (come["cards"], come["order"]) == (
        {"gpu18": "card of gpu18: a"}, ["gpu17", "gpu18"],
    )  # fmt: skip
    assert told(browser.changes(fleet(two), 2)) == {"order": ["gpu18"]}


def test_filters_hold_for_events_too() -> None:
    full, free = drawn("gpu17"), drawn("gpu18", free=1)
    browser = watcher(Choice(free=True))
    assert told(browser.changes(fleet(full, free), 0)) == {
        "cards": {"gpu18": "card of gpu18: a"},
        "order": ["gpu18"],
        "summary": "s",
        "count": "1 of 2 servers are shown.",
    }
    assert browser.changes(fleet(drawn("gpu17", "b"), free), 1) == ""
    taken = told(browser.changes(fleet(full, drawn("gpu18", "b")), 2))
    assert (taken["order"], taken["count"]) == ([], "0 of 2 servers are shown.")


def test_cards_keep_their_places_for_a_while() -> None:
    browser = watcher(Choice(order=SortOrder.CPU))
    browser.changes(fleet(drawn("gpu17", cpu=90), drawn("gpu18", cpu=10)), 0)
    other = fleet(drawn("gpu17", cpu=10), drawn("gpu18", cpu=90))
    assert browser.changes(other, CALM - 1) == ""
    assert told(browser.changes(other, CALM + 1)) == {"order": ["gpu18", "gpu17"]}


def test_how_many_are_shown_is_said_if_it_is_not_all() -> None:
    assert counted(3, 3) == ""
    assert counted(1, 3) == "1 of 3 servers are shown."
