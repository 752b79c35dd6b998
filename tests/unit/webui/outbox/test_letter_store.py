"""Letters and mail preferences on disk: nothing lost by a kill, a full disk or damage."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from state.errors import LxcGpuError
from state.wire.notices import NoticeKind
from tests.full_disk import full_disk
from tests.unit.webui.outbox.test_plan import message
from webui.outbox import plan
from webui.outbox.letter_store import REMEMBERED, LetterStatus, Outbox, from_json
from webui.outbox.mail_preferences import MailPreferences


def test_letters_survive_a_restart_in_their_order(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "letters")
    kept = [message(3), message(1), plan.accepted(message(2), 1.8e9)]
    for each in kept:
        outbox.put(each)
    assert Outbox(tmp_path / "letters").all() == tuple(sorted(kept, key=lambda m: m.made))
    assert (tmp_path / "letters").stat().st_mode & 0o777 == 0o700


def test_a_damaged_letter_is_put_aside_and_hides_no_other(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    outbox.put(message(1))
    outbox.put(message(2))
    path = tmp_path / f"{message(1).id}.json"
    path.write_text(path.read_text()[:50])
    (tmp_path / ".half.json.0000.new").write_text("{")
    assert Outbox(tmp_path).all() == (message(2),)
    assert {p.suffix for p in tmp_path.iterdir()} == {".json", ".damaged"}


@pytest.mark.parametrize(
    "change", [{"made": "1"}, {"made": float("nan")}, {"made": -1}, {"to": 5}, {"way": "pigeon"},
               {"standing": "lost"}, {"tries": True}, {"text": None}, {"more": 1}]
)  # fmt: skip
def test_what_can_not_have_been_written_is_damage(change: dict[str, object]) -> None:
    with pytest.raises((ValueError, TypeError)):
        from_json(json.dumps(asdict(message(1)) | change))


def test_a_full_disk_forgets_nothing(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    with full_disk(), pytest.raises(LxcGpuError) as error:
        outbox.put(message(1))
    assert error.value.code == "outbox-disk"
    assert outbox.get(message(1).id) == message(1)
    assert not outbox.is_saved(message(1).id)
    outbox.save()
    assert outbox.is_saved(message(1).id)
    assert Outbox(tmp_path).all() == (message(1),)


def test_what_was_sent_is_remembered_longer_than_servers_say_it(tmp_path: Path) -> None:
    outbox, waits, sent = Outbox(tmp_path), message(1), plan.accepted(message(2), 1.8e9)
    outbox.put(waits)
    outbox.put(replace(sent, standing=LetterStatus.DONE))
    outbox.forget_old(1.8e9 + REMEMBERED - 10, lambda m: False)
    assert len(outbox.all()) == 2
    outbox.forget_old(1.8e9 + REMEMBERED + 10, lambda m: True)
    assert len(outbox.all()) == 2
    outbox.forget_old(1.8e9 + REMEMBERED + 10, lambda m: False)
    assert Outbox(tmp_path).all() == outbox.all() == (waits,)


@pytest.mark.parametrize("ident", ["../../etc/passwd", "", "a/b", ".hidden", "A", "x" * 200])
def test_an_id_leads_nowhere_else(tmp_path: Path, ident: str) -> None:
    with pytest.raises(ValueError, match="not the id"):
        Outbox(tmp_path / "letters").put(replace(message(1), id=ident))


def test_wishes_are_kept_by_person(tmp_path: Path) -> None:
    preferences = MailPreferences(tmp_path / "outbox" / "wishes.json")
    assert preferences.stopped("ann") == frozenset()
    preferences.save("ann", [NoticeKind.IDLE, NoticeKind.GPUS_FREE])
    preferences.save("bob", [NoticeKind.IDLE])
    again = MailPreferences(tmp_path / "outbox" / "wishes.json")
    assert again.stopped("ann") == {NoticeKind.IDLE, NoticeKind.GPUS_FREE}
    again.save("ann", [])
    assert again.stopped("ann") == frozenset()
    assert again.stopped("bob") == {NoticeKind.IDLE}


def test_that_a_container_will_be_stopped_can_not_be_stopped(tmp_path: Path) -> None:
    preferences = MailPreferences(tmp_path / "wishes.json")
    preferences.save("ann", list(NoticeKind))
    assert not preferences.stopped("ann") & {NoticeKind.WILL_STOP, NoticeKind.STOPPED}


@pytest.mark.parametrize("text", ["{", "[]", '{"ann": 5}', '{"ann": [[]]}', '{"ann": "idle"}'])
def test_damaged_wishes_are_never_taken_for_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "wishes.json"
    path.write_text(text)
    with pytest.raises(LxcGpuError) as error:
        MailPreferences(path).stopped("ann")
    assert error.value.code == "wishes-damaged"
    with pytest.raises(LxcGpuError):
        MailPreferences(path).save("ann", [])
    assert path.read_text() == text
