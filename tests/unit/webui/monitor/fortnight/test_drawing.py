"""A server's fortnight: what is placed where, and what is not believed."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from state.wire.messages import LATEST
from state.wire.server_load import MigLoad, ReservedGpus
from tests.unit.state.state_files import state
from tests.unit.webui.monitor.small_loads import gpu, load
from webui.monitor.fortnight.days import DAYS, Window
from webui.monitor.fortnight.drawing import MOST_BLOCKS, MOST_ROWS, Fortnight, fortnight
from webui.monitor.shown.closed import Closed
from webui.monitor.shown.people import People

BERLIN = ZoneInfo("Europe/Berlin")
HOUR = 3600.0
DAY = 24 * HOUR
PEOPLE = People(state())
FULL_NAME = state().users["lqchen"].name


def at(text: str, zone: ZoneInfo = BERLIN) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=zone).timestamp()


NOON = at("2026-11-26 12:00")
WINDOW = Window(NOON, BERLIN)
MIDNIGHT = NOON - 12 * HOUR


def reserved(user: str, begins: float, hours: float, *gpus: int, **more: Any) -> ReservedGpus:
    uuids = tuple(f"GPU-{index}" for index in gpus)
    return ReservedGpus(f"{user}-{begins}", user, uuids, begins, begins + hours * HOUR, **more)


def drawn(
    *reservations: ReservedGpus, gpus: int = 4, window: Window = WINDOW, **more: Any
) -> Fortnight:
    given = load("gpu17", *(gpu(index) for index in range(gpus)), reservations=reservations)
    return fortnight(given, PEOPLE, window, **more)


def test_neighbouring_gpus_are_one_block_and_others_several() -> None:
    found = drawn(reserved("lqchen", MIDNIGHT + DAY, 24, 0, 1, 3))
    assert [(b.row, b.rows) for b in found.blocks] == [(0, 2), (3, 1)]
    one_day = 100 / DAYS
    assert found.blocks[0].left == pytest.approx(one_day, abs=0.01)
    assert found.blocks[0].width == pytest.approx(one_day, abs=0.01)
    (line,) = found.lines
    assert line.words == f"{FULL_NAME}: GPU 0-1, 3, tomorrow 0:00 to Sat 0:00"
    assert found.over == pytest.approx(one_day / 2, abs=0.01)


def test_what_reaches_beyond_the_fortnight_is_cut_and_what_is_over_is_left_out() -> None:
    found = drawn(
        reserved("ann", NOON - 40 * DAY, 24 * 41, 0),
        reserved("ann", NOON + 14 * DAY, 24 * 30, 1),
        reserved("ann", NOON - DAY, 24, 2),
        reserved("ann", NOON + 15 * DAY, 24, 3),
    )
    first, last = found.blocks
    assert (first.left, last.left + last.width) == (0, 100)
    assert first.width == pytest.approx(150 / DAYS, abs=0.01)
    assert [line.now for line in found.lines] == [True, False]


@pytest.mark.parametrize(
    ("day", "hours"),
    [("2026-10-25", 25), ("2026-03-29", 23)],
    ids=["an hour twice", "an hour left out"],
)
def test_a_day_has_as_many_hours_as_the_clock_gives_it(day: str, hours: int) -> None:
    window = Window(at(f"{day} 12:00") - 3 * DAY, BERLIN)
    changed = next(d for d in window.days if d.number == int(day[-2:]))
    usual = window.days[0]
    assert changed.width / usual.width == pytest.approx(hours / 24, abs=0.001)
    assert sum(d.width for d in window.days) == pytest.approx(100)
    assert [d.left for d in window.days[1:]] == [
        pytest.approx(d.left + d.width) for d in window.days[:-1]
    ]
    # The same time of day before and after stands at the same place of its column.
    noon = Window(at(f"{day} 12:00"), BERLIN)
    before = reserved("ann", at(f"{day} 00:00") + DAY * 2, 1, 0)
    assert (
        drawn(before, window=noon)
        .lines[0]
        .begins_words.endswith("23:00" if hours == 25 else "1:00")
    )
    assert window.zone_words() == (
        "CEST (UTC+2), from Sun 25 Oct on CET (UTC+1)"
        if hours == 25
        else "CET (UTC+1), from Sun 29 Mar on CEST (UTC+2)"
    )


def test_nobody_has_reserved_anything() -> None:
    found = drawn()
    assert found.empty
    assert (found.blocks, found.lines, len(found.days), len(found.rows)) == ((), (), DAYS, 4)
    assert [d.weekday for d in found.days[:4]] == ["Thu", "Fri", "Sat", "Sun"]
    assert [d.number for d in found.days if d.weekend] == [28, 29, 5, 6]
    assert [d.number for d in found.days if d.month] == [1]
    assert drawn(gpus=0).rows == ()


def test_sixteen_gpus_taken_by_turns() -> None:
    turns = [reserved(f"u{n}", NOON + n * DAY, 24, *range(n, 16, 2)) for n in range(2)]
    found = drawn(*turns, gpus=16)
    assert [(b.row, b.rows) for b in found.blocks] == [
        *((row, 1) for row in range(0, 16, 2)),
        *((row, 1) for row in range(1, 16, 2)),
    ]
    everything = drawn(reserved("ann", NOON, 24, *range(16)), gpus=16)
    assert [(b.row, b.rows) for b in everything.blocks] == [(0, 16)]


def test_of_a_shared_out_gpu_each_instance_has_a_row() -> None:
    parts = tuple(MigLoad(f"MIG-{n}", f"{n}g.10gb", 10, 1) for n in (1, 2))
    given = load(
        "gpu17",
        replace(gpu(0), mig=parts),
        gpu(1),
        reservations=(
            ReservedGpus("a", "ann", ("MIG-2",), NOON, NOON + DAY),
            ReservedGpus("b", "bob", ("GPU-0",), NOON + DAY, NOON + 2 * DAY),
            ReservedGpus("c", "chi", ("GPU-1", "MIG-9"), NOON, NOON + DAY),
        ),
    )
    found = fortnight(given, PEOPLE, WINDOW)
    assert [(row.index, row.part) for row in found.rows] == [
        (0, "1g.10gb"),
        (0, "2g.10gb"),
        (1, ""),
    ]
    assert [(b.row, b.rows) for b in found.blocks] == [(1, 1), (2, 1), (0, 2)]
    assert [line.gpus for line in found.lines] == ["0 (2g.10gb)", "1, 1 gone", "0"]


def test_what_cannot_be_is_drawn_once() -> None:
    """An honest server has no overlaps, and nothing that ends before it begins."""
    found = drawn(
        reserved("ann", NOON, 10, 0, 1),
        reserved("bob", NOON + HOUR, 10, 1, 2),
        reserved("chi", NOON + 10 * HOUR, 0, 3),
        reserved("chi", NOON + 10 * HOUR, -3, 3),
        reserved("dora", NOON, 1),
    )
    assert [(b.row, b.rows, b.words[:3].lower()) for b in found.blocks] == [
        (0, 2, "ann"),
        (2, 1, "bob"),
    ]
    assert len(found.lines) == 3


def test_the_end_of_all_time_can_be_said() -> None:
    (line,) = drawn(ReservedGpus("a", "ann", ("GPU-0",), 0.0, LATEST)).lines
    assert (line.begins_words, line.ends_words) == ("Thu 1 Jan 1970 1:00", "Fri 31 Dec 9999 0:59")


def test_a_name_is_written_where_there_is_room() -> None:
    def label(user: str, hours: float) -> tuple[str, str]:
        (block,) = drawn(reserved(user, NOON, hours, 0)).blocks
        return block.label, block.fits

    assert label("lqchen", 24 * 14) == (FULL_NAME, "narrow")
    assert label("lqchen", 36) == (FULL_NAME, "broad")
    assert label("lqchen", 24) == ("lqchen", "broad")
    assert label("lqchen", 1) == ("", "")


def test_a_closed_time_takes_all_rows_and_reservations_stay_to_be_seen() -> None:
    closed = Closed(NOON + DAY, NOON + 2 * DAY, "The switch is changed.")
    found = drawn(reserved("ann", NOON + DAY, 24, 2), closed=(closed,))
    assert [(b.row, b.rows, b.tone is None) for b in found.blocks] == [(2, 1, False), (0, 4, True)]
    assert (
        found.lines[1].words == "Maintenance (The switch is changed.), tomorrow 12:00 to Sat 12:00"
    )
    assert (found.blocks[-1].label, found.blocks[-1].fits) == ("closed", "broad")
    later = reserved("ann", NOON + DAY + HOUR, 9, 2)
    assert [b.tone is None for b in drawn(later, closed=(closed,)).blocks] == [False, True]
    assert drawn(closed=(closed,), gpus=0).blocks == ()


def test_a_server_that_makes_reservations_up_is_drawn_at_a_bound() -> None:
    many = tuple(
        ReservedGpus(f"r{n}", f"u{n}", tuple(f"GPU-{g}" for g in range(0, 64, 2)),
                     NOON + n * 1800, NOON + n * 1800 + 1800)
        for n in range(500)
    )  # fmt: skip
    parts = tuple(MigLoad(f"MIG-{n}", "1g", 1, 1) for n in range(64))
    given = load("gpu17", *(replace(gpu(n), mig=parts) for n in range(64)), reservations=many)
    found = fortnight(given, PEOPLE, WINDOW)
    assert (len(found.rows), found.more_rows) == (MOST_ROWS, 64 * 64 - MOST_ROWS)
    assert len(found.blocks) <= MOST_BLOCKS
    plain = drawn(*many, gpus=64)
    assert (len(plain.blocks), plain.more_blocks) == (MOST_BLOCKS, 500 * 32 - MOST_BLOCKS)
