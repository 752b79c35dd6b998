"""Who waits for free GPUs, and the file of it."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.host import places
from reconciler.notices import store as notices
from reconciler.notices.notebook import DAY
from reconciler.reservations import waiting
from reconciler.reservations.waiting import LONGEST, MOST, Wait, Waiting
from state.errors import LxcGpuError
from state.wire.notices import Facts, NoticeKind

NOW = 1_800_000_000.0
MINE = Wait("lqchen", 2, "a100", NOW)
HERS = Wait("ann", 1, "", NOW + 1)


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(places, "WAITING", tmp_path / "waiting.json")
    monkeypatch.setattr(places, "NOTICES", tmp_path / "notices.json")
    monkeypatch.setattr(places, "LOCKS", tmp_path / "locks")
    return places.WAITING


def test_what_was_written_is_read(file: Path) -> None:
    assert waiting.read() == Waiting()
    waiting.change(lambda all_: all_.add(MINE).add(HERS), NOW)
    assert waiting.read() == Waiting((MINE, HERS))
    assert file.stat().st_mode & 0o777 == 0o600


def test_no_file_where_nobody_waits(file: Path) -> None:
    waiting.change(lambda all_: all_.add(MINE), NOW)
    waiting.change(lambda all_: all_.without(MINE), NOW)
    assert not file.exists()


def test_the_same_once_more_stays_what_it_was() -> None:
    assert Waiting((MINE,)).add(replace(MINE, since=NOW + 60)) == Waiting((MINE,))


def test_a_most_for_each() -> None:
    full = Waiting(tuple(replace(MINE, gpus=n + 1) for n in range(MOST)))
    with pytest.raises(LxcGpuError) as caught:
        full.add(replace(MINE, gpus=9))
    assert caught.value.code == "waits-most"
    assert full.add(HERS).of("ann") == (HERS,)


def test_nobody_waits_for_ever() -> None:
    assert Waiting((MINE, HERS)).at(NOW + LONGEST) == Waiting((HERS,))
    assert Waiting((MINE,)).at(NOW - LONGEST) == Waiting(), "from before a clock was set back"


def test_what_one_waited_for_is_said_as_long_as_no_mail_told_it() -> None:
    now = time.time()
    free = NoticeKind.GPUS_FREE
    notices.say("ann", free, "1", Facts(gpus=2, model="A100"))
    notices.say("ann", free, "2", Facts(gpus=1))
    notices.say("ann", NoticeKind.IDLE, "3", Facts(at=now))
    notices.say("bob", free, "1", Facts(gpus=4))
    one, other = waiting.untold("ann", now)
    assert one.startswith("You waited for GPUs: 2 GPUs (A100) were free on ")
    assert other.startswith("You waited for GPUs: 1 GPU was free on ")
    assert waiting.untold("ann", now + 8 * DAY) == waiting.untold("cy", now) == []
    (mailed,) = [n.id for n in notices.open_notices() if n.user == "ann" and n.facts.gpus == 2]
    notices.accept([mailed], now)
    assert waiting.untold("ann", now) == [other]
    waiting.forget_untold("ann")
    assert waiting.untold("ann", now) == []
    assert len(waiting.untold("bob", now)) == 1
    places.NOTICES.write_text("{")
    assert waiting.untold("bob", now) == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"waiting": [{"user": "ann"}]}',
        '{"waiting": [{"user": "ann", "gpus": true}]}',
        '{"waiting": [{"user": "ann", "gpus": 1, "model": 7}]}',
        '{"waiting": [{"user": "ann", "gpus": 1, "since": -1}]}',
    ],
)
def test_a_damaged_one_is_not_an_empty_one(file: Path, text: str) -> None:
    file.write_text(text)
    with pytest.raises(LxcGpuError) as caught:
        waiting.change(lambda all_: all_.add(MINE), NOW)
    assert caught.value.code == "waiting-damaged"
    assert file.read_text() == text
