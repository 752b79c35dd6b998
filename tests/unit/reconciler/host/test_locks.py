from __future__ import annotations

import pytest

from reconciler.host import locks, places


def test_one_of_several_is_held_until_all_are(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "LOCKS", tmp_path)
    with locks.one_of("place", 2) as first, locks.one_of("place", 2) as second:
        assert (first, second) == (True, True)
        with locks.one_of("place", 2) as third, locks.one_of("other", 1) as other:
            assert (third, other) == (False, True)
    with locks.one_of("place", 2) as again:
        assert again
