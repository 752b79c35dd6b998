"""When people are told that their disk is nearly full, and when it is over."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.disk.project_quota import QuotaUse
from reconciler.host import places
from reconciler.notices import store as notices
from reconciler.rounds import nearly_full
from reconciler.rounds.nearly_full import FULL, ROOM


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "NOTICES", tmp_path / "notices.json")
    monkeypatch.setattr(places, "LOCKS", tmp_path / "locks")


def said(percent: float | None) -> list[int]:
    """Of what lqchen is to be told after a round that sees so much of the disk taken."""
    use = None if percent is None else QuotaUse(int(percent * 1000), 100_000)
    nearly_full.say({"lqchen": use, "ann": QuotaUse(1, 100_000)})
    return [each.facts.percent for each in notices.open_notices() if each.user == "lqchen"]


def test_from_a_share_on_and_once() -> None:
    assert said(FULL - 0.1) == []
    assert said(FULL) == [FULL]
    assert said(99) == [FULL], "it was said"
    assert len(notices.read().said) == 1


def test_of_a_disk_that_holds_more_than_it_may() -> None:
    assert said(140) == [100], "a limit that was made smaller"


def test_over_with_some_room() -> None:
    said(FULL)
    assert said(ROOM) == [FULL]
    assert said(ROOM - 0.1) == []
    assert said(97) == [97], "it may be said anew"


def test_over_without_a_limit() -> None:
    said(FULL)
    assert said(None) == []
