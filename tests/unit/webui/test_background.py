"""Loops that mistakes don't end, and what the journal hears of those."""

from __future__ import annotations

import logging
from threading import Event

import pytest

from state.errors import LxcGpuError
from tests.patience import eventually
from tests.threads import none_to_be_had
from webui.background import SAY_AGAIN, Attempts, every, start


@pytest.fixture(autouse=True)
def journal(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO)
    return caplog


def fails(error: Exception) -> None:
    raise error


def test_a_mistake_is_told_and_ends_nothing(journal: pytest.LogCaptureFixture) -> None:
    done, stop = [], Event()

    def work() -> None:
        done.append(1)
        if len(done) == 2:
            raise RuntimeError("can't start new thread")

    thread = every(0.01, "watch", work, stop)
    eventually(lambda: len(done) > 5)
    stop.set()
    thread.join(30)
    assert journal.text.count("event=crashed where=watch") == 1
    assert "RuntimeError: can't start new thread" in journal.text
    assert "in work" in journal.text  # the traceback
    assert "event=background-works work=watch failures=1" in journal.text


def test_it_stops_at_once_and_does_what_is_left(journal: pytest.LogCaptureFixture) -> None:
    done, stop = [], Event()
    thread = every(3600, "history", lambda: done.append("work"), stop, lambda: done.append("end"))
    assert (thread.name, thread.daemon) == ("history", True)
    eventually(lambda: done)
    stop.set()
    thread.join(30)
    assert not thread.is_alive()
    assert done == ["work", "end"]


def test_a_mistake_at_the_end_is_told(journal: pytest.LogCaptureFixture) -> None:
    stop = Event()
    stop.set()
    every(3600, "history", lambda: None, stop, lambda: fails(ZeroDivisionError())).join(30)
    assert "event=crashed where=history" in journal.text


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_whoever_exits_means_it(journal: pytest.LogCaptureFixture) -> None:
    def work() -> None:
        raise SystemExit

    thread = every(0.01, "watch", work, Event())
    thread.join(30)
    assert not thread.is_alive()
    assert "event=" not in journal.text


def test_without_a_thread_nothing_is_done(journal: pytest.LogCaptureFixture) -> None:
    done = []
    with none_to_be_had(), pytest.raises(LxcGpuError) as caught:
        start("fetch", lambda: done.append(1))
    assert (caught.value.code, done) == ("no-thread", [])
    assert caught.value.details == "fetch: can't start new thread"
    start("fetch", lambda: done.append(1)).join(30)
    assert done == [1]


def test_a_failure_that_lasts_is_told_once_an_hour(journal: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    attempts = Attempts("listeners", lambda: now[0])

    def told(error: Exception) -> int:
        journal.clear()
        attempts.make(lambda: fails(error))
        return len(journal.records)

    down = LxcGpuError("state-unreadable", "It can't be read.", details="attempt 1")
    assert told(down) == 1
    assert "event=background-failed work=listeners code=state-unreadable" in journal.text
    assert "Traceback" not in journal.text
    assert told(LxcGpuError("state-unreadable", "It can't be read.", details="attempt 2")) == 0
    assert told(LxcGpuError("no-thread", "No thread.")) == 1
    assert told(KeyError("gpu17")) == 1
    assert told(KeyError("gpu18")) == 0
    assert told(down) == 0
    now[0] = SAY_AGAIN
    assert told(down) == 1
    journal.clear()
    attempts.make(lambda: None)
    assert "event=background-works work=listeners failures=7" in journal.text
    attempts.make(lambda: None)
    assert len(journal.records) == 1
    assert told(down) == 0, "nobody reads a journal of work that fails every second time"
    journal.clear()
    attempts.make(lambda: None)
    assert journal.text == ""
    now[0] += SAY_AGAIN
    assert told(down) == 1
