from __future__ import annotations

import json
from pathlib import Path

import pytest

from reconciler.host import key_days, places
from state.wire import messages
from tests.unit.state.keyring import ed25519

DAY = 86_400


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(places, "KEY_DAYS", tmp_path / "key_days.json")
    monkeypatch.setattr(places, "LOCKS", tmp_path / "locks")
    return tmp_path / "key_days.json"


def test_the_last_day_of_each_key_is_kept_and_no_more(kept: Path) -> None:
    key, other = ed25519("key"), ed25519("other")
    assert key_days.read() == {}
    key_days.note([str(key)], 0)
    key_days.note([str(key), str(other)], 5 * DAY)
    days = {key.fingerprint: "1970-01-06", other.fingerprint: "1970-01-06"}
    assert key_days.read() == days
    assert json.loads(kept.read_text()) == days, "no name, no address, no hour"


def test_within_a_day_nothing_is_written_again(kept: Path) -> None:
    key_days.note([str(ed25519("key"))], 1000 * DAY)
    before = kept.stat().st_ino
    key_days.note([str(ed25519("key"))], 1000 * DAY + 5)
    assert kept.stat().st_ino == before
    key_days.note([str(ed25519("key"))], 1001 * DAY)
    assert kept.stat().st_ino != before


def test_what_was_used_long_ago_is_forgotten(kept: Path) -> None:
    key_days.note([str(ed25519("old"))], 1000 * DAY)
    key_days.note([str(ed25519("new"))], 1401 * DAY)
    assert list(key_days.read()) == [ed25519("new").fingerprint]


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"a": 1}'])
def test_a_damaged_file_keeps_nobody_out(kept: Path, text: str) -> None:
    kept.write_text(text)
    key_days.note([str(ed25519("key"))], 0)
    assert key_days.read()[ed25519("key").fingerprint] == "1970-01-01"


def test_a_report_tells_them_and_what_is_no_day_is_left_out() -> None:
    good = {ed25519(1).fingerprint: "2026-11-26"}
    odd = {"<b>": "2026-11-26", ed25519(2).fingerprint: "<script>", ed25519(3).fingerprint: "9"}
    report = messages.Report("gpu17", "a" * 40, 1.0, 1.0, key_days={**good, **odd})
    again = messages.decode(messages.encode(report))
    assert isinstance(again, messages.Report)
    assert again.key_days == good
