from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.host import locks, places


def test_one_of_several_is_held_until_all_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "LOCKS", tmp_path)
    with locks.one_of("place", 2) as first, locks.one_of("place", 2) as second:
        assert (first, second) == (True, True)
        with locks.one_of("place", 2) as third, locks.one_of("other", 1) as other:
            assert (third, other) == (False, True)
    with locks.one_of("place", 2) as again:
        assert again


def test_whether_any_is_held_and_when_one_was_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "LOCKS", tmp_path)
    assert not locks.any_held("place", 2)
    assert locks.last_taken("place", 2) == 0
    with locks.one_of("place", 2), locks.one_of("place", 2):
        assert locks.any_held("place", 2)
        assert not locks.any_held("other", 2)
    assert not locks.any_held("place", 2)
    taken = locks.last_taken("place", 2)
    assert not locks.any_held("place", 2)
    assert locks.last_taken("place", 2) == taken > 0, "a question takes none"
    assert {path.name for path in tmp_path.iterdir()} == {"place-0", "place-1"}
