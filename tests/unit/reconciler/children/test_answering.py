"""What may hang is asked in a child: real ones, that hang, crash and answer."""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from reconciler.children.answering import AnsweringChild, EndedError, SilentError, orphans
from reconciler.children.forked import Child
from tests.open_files import none_left_open

LATER = 20.0


def counting() -> Any:
    """Something that keeps what it opened."""
    seen = list[object]()

    def answer(question: object) -> list[int]:
        seen.append(question)
        return [os.getpid(), len(seen)]

    return answer


@pytest.fixture
def made() -> Iterator[list[AnsweringChild]]:
    made = list[AnsweringChild]()
    yield made
    for asked in made:
        asked.close()


def test_one_child_answers_all_questions(made: list[AnsweringChild]) -> None:
    made.append(asked := AnsweringChild("answers", counting(), LATER))
    answers = []
    for _ in range(3):
        assert asked.ask("?")
        assert not asked.ask("? again, before the answer")
        answers.append(asked.answer(LATER))
    (child, first), (_, second), (same, third) = answers
    assert (first, second, third) == (1, 2, 3)
    assert child == same != os.getpid()
    assert Path(f"/proc/{child}/comm").read_text() == "answers\n"
    asked.close()
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


def test_who_hangs_is_left_in_time_and_another_one_is_tried_after_a_pause(
    made: list[AnsweringChild],
) -> None:
    made.append(asked := AnsweringChild("hangs", lambda _: time.sleep(60), 0.5, pauses=(0.3, 60.0)))
    asked.ask(1)
    assert asked.answer(0.001) is None
    with pytest.raises(SilentError):  # and not None, which it would be once LATER is over
        asked.answer(LATER)
    assert not asked.ask(2), "it rests"
    time.sleep(0.35)
    assert asked.ask(3)
    with pytest.raises(SilentError):
        asked.answer(LATER)
    time.sleep(0.35)
    assert asked.rests, "longer than the first time"


def test_who_crashes_is_an_error(made: list[AnsweringChild]) -> None:
    made.append(asked := AnsweringChild("crashes", lambda _: os._exit(3), LATER))
    asked.ask(1)
    with pytest.raises(EndedError):
        asked.answer(LATER)
    made.append(asked := AnsweringChild("raises", lambda _: 1 // 0, LATER))
    asked.ask(1)
    with pytest.raises(EndedError, match="ZeroDivisionError"):
        asked.answer(LATER)


def test_where_no_child_can_be_started_another_is_tried_later(
    made: list[AnsweringChild], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody's fork bomb takes every pid: the stream goes on without their answers."""

    def none_left() -> int:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    made.append(asked := AnsweringChild("none", counting(), LATER, pauses=(0.0,)))
    with none_left_open(), monkeypatch.context() as patch:
        patch.setattr(os, "fork", none_left)
        with pytest.raises(EndedError, match="unavailable"):
            asked.ask(1)
    assert asked.ask(1)
    assert asked.answer(LATER)[1] == 1


def test_of_one_that_did_not_end_at_once_nothing_is_left_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nobody else would close it: whoever asks once forgets whom it asked."""
    monkeypatch.setattr("reconciler.children.answering._SOON", 0)
    with none_left_open(), closing(AnsweringChild("slow", counting(), LATER)) as asked:
        assert asked.ask(1)
        child, _ = asked.answer(LATER)
    with suppress(ChildProcessError):  # perhaps it did end at once
        os.waitpid(child, 0)


def test_who_cannot_be_killed_is_not_followed_by_many(made: list[AnsweringChild]) -> None:
    """A child in D state can't be made here; one that was killed and isn't waited for looks so."""
    made.append(asked := AnsweringChild("left", counting(), LATER, pauses=(0.0,), most_left=2))
    stopped = [Child(signal.pause, []) for _ in range(2)]
    try:
        asked._left += stopped
        with pytest.raises(SilentError):
            asked.ask(1)
        assert stopped[0].kill(LATER)
        assert asked.ask(2)
        assert asked.answer(LATER)[1] == 1
    finally:
        for child in stopped:
            child.kill(LATER)


def test_children_of_a_program_that_has_ended_are_known() -> None:
    """The parent ends at once; its child goes on, as one in D state would."""
    name = f"orphan{os.getpid()}"[-15:]
    parent = os.fork()
    if parent == 0:
        try:
            AnsweringChild(name, lambda _: time.sleep(60), LATER).ask(1)
            while not _named(name):
                time.sleep(0.01)
        finally:
            os._exit(0)
    os.waitpid(parent, 0)
    (child,) = _named(name)
    try:
        parent_now = int(Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[1])
        assert list(orphans(name)) == ([child] if parent_now == 1 else [])
    finally:
        os.kill(child, signal.SIGKILL)


def _comms() -> Iterator[Path]:
    return Path("/proc").glob("[0-9]*/comm")


def _named(name: str) -> list[int]:
    found = []
    for each in _comms():
        try:
            if each.read_text().strip() == name:
                found.append(int(each.parent.name))
        except OSError:
            continue
    return found
