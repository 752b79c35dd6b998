"""When the wall clock is believed: two looks agree, and no move is recent."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from reconciler.host import boot, places
from shells.units import clock

BOOT, DAY = 1.8e9, 86400.0


class Clocks:
    """The machine's two clocks."""

    CLOCK_BOOTTIME = 7

    def __init__(self) -> None:
        self.boot, self.wall = 3600.0, BOOT + 3600.0

    def pass_(self, seconds: float) -> None:
        self.boot += seconds
        self.wall += seconds


@pytest.fixture
def clocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clocks:
    monkeypatch.setattr(places, "CLOCK_SEEN", tmp_path / "clock-seen.json")
    found = Clocks()
    both = SimpleNamespace(
        CLOCK_BOOTTIME=7, clock_gettime=lambda _: found.boot, time=lambda: found.wall
    )
    monkeypatch.setattr(clock, "time", both)
    monkeypatch.setattr(boot, "time", both)
    return found


def test_the_first_look_of_a_boot_is_compared_with_nothing(clocks: Clocks) -> None:
    assert not clock.is_steady()
    clocks.pass_(1)
    assert clock.is_steady()
    clocks.pass_(90 * DAY)
    assert clock.is_steady()


def test_one_that_is_set_after_the_boot(clocks: Clocks) -> None:
    clocks.boot, clocks.wall = 60.0, 0.0
    assert not clock.is_steady()
    clocks.wall = BOOT
    assert not clock.is_steady()
    clocks.pass_(clock.SETTLED)
    assert clock.is_steady()


@pytest.mark.parametrize("jump", [90.0, DAY, -DAY, 400 * DAY])
def test_one_that_was_moved_has_to_stand_for_a_while(clocks: Clocks, jump: float) -> None:
    clock.is_steady()
    clocks.wall += jump
    for _ in range(10):
        assert not clock.is_steady()
        clocks.pass_(clock.SETTLED / 10)
    assert clock.is_steady()
    clocks.wall -= jump
    assert not clock.is_steady(), "it is put right"


def test_little_steps_are_no_move(clocks: Clocks) -> None:
    clock.is_steady()
    for _ in range(20):
        clocks.pass_(60)
        clocks.wall += 1
        assert clock.is_steady()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"ahead": null, "since": 1}', '{"ahead": 1}'])
def test_garbage_is_no_earlier_look(clocks: Clocks, text: str) -> None:
    places.CLOCK_SEEN.write_text(text)
    assert not clock.is_steady()
    assert clock.is_steady()
