"""What the page says of announcements: of which servers, from when until when."""

from __future__ import annotations

from state.model.documents import State
from state.model.fields import seconds_of
from state.reading.load import load
from tests.unit.state.state_files import files
from webui.words import announced

RAM = """\
text: New memory
servers: [gpu17]
from: 2026-12-01 08:00 +01:00
until: 2026-12-01 12:30 +01:00
stop: true
"""
NAS = "text: The NAS is slow\nuntil: 2026-12-01 10:00 +01:00\n"
BEGINS = seconds_of("2026-12-01 08:00 +01:00")


def state() -> State:
    return load(files(announcements__ram=RAM, announcements__nas=NAS))


def texts(now: float, servers: list[str] | None = None) -> list[str]:
    return [each.text for each in announced(state(), now, servers)]


def test_until_it_is_over_the_first_to_end_first() -> None:
    assert texts(BEGINS - 1) == ["The NAS is slow", "New memory"]
    assert texts(BEGINS + 2 * 3600) == ["New memory"]
    assert texts(BEGINS + 4.5 * 3600) == []


def test_of_the_servers_that_a_page_is_about() -> None:
    assert texts(BEGINS, ["gpu18"]) == ["The NAS is slow"]
    assert texts(BEGINS, ["gpu17", "gpu18"]) == ["The NAS is slow", "New memory"]


def test_when_it_begins_is_said_before_it_has() -> None:
    nas, ram = announced(state(), BEGINS - 1)
    assert (nas.begins, nas.servers, nas.stop) == (None, "", False)
    assert (ram.begins, ram.ends, ram.servers, ram.stop) == (
        BEGINS,
        BEGINS + 4.5 * 3600,
        "gpu17",
        True,
    )
    _, ram = announced(state(), BEGINS)
    assert ram.begins is None
