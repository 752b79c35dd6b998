"""What a server has to tell: said once, told until it was accepted, lost by no damage."""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path

import pytest

from reconciler.host import places
from reconciler.notices import notebook, store
from reconciler.notices.notebook import DAY, KEPT, MOST_OF_USER, Notebook
from state import command
from state.errors import LxcGpuError
from state.wire.notices import MOST_TOLD, Facts, Notice, NoticeKind

IDLE, FREE = NoticeKind.IDLE, NoticeKind.GPUS_FREE
NOW = 1.8e9


@pytest.fixture(autouse=True)
def own_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "NOTICES", tmp_path / "notices.json")
    monkeypatch.setattr(places, "LOCKS", tmp_path / "locks")


def notice(number: int, user: str = "ann", kind: NoticeKind = IDLE, made: float = NOW) -> Notice:
    return Notice(f"{number:012x}", user, kind, made)


def test_what_is_said_often_is_told_once_until_it_is_over() -> None:
    store.say("ann", IDLE, "start-1", Facts(at=NOW))
    (first,) = store.open_notices()
    before = places.NOTICES.stat()
    store.say("ann", IDLE, "start-1", Facts(at=NOW))
    assert store.open_notices() == (first,)
    assert places.NOTICES.stat() == before, "nothing is written for what is said already"
    store.accept([first.id, "ffffffffffff"], NOW)
    store.say("ann", IDLE, "start-1", Facts(at=NOW))
    assert store.open_notices() == ()
    assert store.accepted("ann", IDLE, "start-1") == (NOW,)
    assert store.accepted("ann", IDLE, "start-2") == store.accepted("bob", IDLE, "start-1") == ()
    store.withdraw("ann", IDLE, "start-1")
    assert store.accepted("ann", IDLE, "start-1") == ()
    store.say("ann", IDLE, "start-1")
    (second,) = store.open_notices()
    assert second.id != first.id


def test_what_is_said_again_is_another_notice_and_both_days_are_known() -> None:
    book = Notebook().say(notice(1), "s", DAY).accept([notice(1).id], NOW)
    early = book.say(notice(2, made=NOW + DAY / 2), "s", DAY)
    assert early.open_at(NOW + DAY / 2) == ()
    late = early.say(notice(3, made=NOW + DAY), "s", DAY)
    assert [n.id for n in late.open_at(NOW + DAY)] == [notice(3).id]
    both = late.accept([notice(1).id, notice(3).id], NOW + DAY)
    assert both.accepted("ann", IDLE, "s") == (NOW, NOW + DAY)


def test_what_nobody_could_be_told_is_dropped_and_said_anew_while_it_lasts() -> None:
    book = Notebook().say(notice(1), "s")
    late = NOW + KEPT
    assert book.open_at(late - 1)
    assert book.open_at(late) == ()
    assert book.without_old(late) == Notebook()
    lasting = book.say(notice(2, made=late - 1), "s").without_old(late)
    assert lasting.open_at(late) == ()
    renewed = lasting.say(notice(3, made=late), "s")
    assert [n.id for n in renewed.open_at(late)] == [notice(3).id]


def test_what_is_said_for_weeks_is_not_forgotten() -> None:
    book = Notebook().say(notice(1), "s").accept([notice(1).id], NOW)
    for day in range(60):
        at = NOW + day * DAY
        book = book.without_old(at).say(notice(2 + day, made=at), "s")
    assert book.accepted("ann", IDLE, "s") == (NOW,)
    assert book.open_at(at) == ()


def test_nobody_hides_anothers_notices() -> None:
    book = Notebook().say(notice(0, "bob"), "only")
    for number in range(1, 3 * MOST_OF_USER):
        book = book.say(notice(number, "ann", made=NOW + number), f"about {number}")
    found = book.open_at(NOW, most=10)
    assert {n.user for n in found[:2]} == {"ann", "bob"}
    assert sum(said.notice.user == "ann" for said in book.said) == MOST_OF_USER
    for number in range(MOST_TOLD + 50):
        book = book.say(notice(1000 + number, f"user{number}"), "a")
    assert len(book.open_at(NOW)) == MOST_TOLD


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"notices": 5}', '{"notices": [{}]}', "[" * 10_000,
             '{"notices": [{"notice": {"id": "x"}}]}']
)  # fmt: skip
def test_a_damaged_file_tells_nothing_and_loses_nothing(text: str) -> None:
    places.NOTICES.write_text(text)
    assert store.Reader().notices() == ()
    for attempt in (
        lambda: store.say("ann", IDLE, "s"),
        lambda: store.accept(["0" * 12], NOW),
        store.open_notices,
        lambda: store.accepted("ann", IDLE, "s"),
    ):
        with pytest.raises(LxcGpuError) as damaged:
            attempt()
        assert damaged.value.code == "notices-damaged"
    assert places.NOTICES.read_text() == text


@pytest.mark.parametrize(
    "change", [{"open": False}, {"open": 1}, {"last": None}, {"last": float("nan")},
               {"accepted": ["x"]}, {"accepted": [True]}]
)  # fmt: skip
def test_what_can_not_have_been_kept_is_damage(change: dict[str, object]) -> None:
    fields = json.loads(notebook.to_json(Notebook().say(notice(1), "s")))
    fields["notices"][0] |= change
    with pytest.raises((ValueError, TypeError)):
        notebook.from_json(json.dumps(fields))


def test_a_reader_sees_what_changed() -> None:
    reader = store.Reader()
    assert reader.notices() == ()
    store.say("ann", FREE, "wait", Facts(gpus=2, model="H100"))
    (first,) = reader.notices()
    assert (first.user, first.facts.gpus) == ("ann", 2)
    store.accept([first.id], NOW)
    assert reader.notices() == ()


def test_many_who_say_at_once_lose_nothing() -> None:
    threads = [threading.Thread(target=store.say, args=(f"user{n}", IDLE, "s")) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.open_notices()) == 20


def test_a_verb_can_say_notices_with_the_standard_library_alone() -> None:
    root = Path(__file__).parents[4]
    program = f"import sys; sys.path.insert(0, {str(root)!r}); import reconciler.notices.store"
    command.run([sys.executable, "-IS", "-c", program])
