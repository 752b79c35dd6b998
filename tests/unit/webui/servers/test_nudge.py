"""Lanes and what reports mean, with servers that are functions."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from threading import Event, Lock

import pytest

from state.model.keys import parse_key
from state.wire.messages import Answer, Failure, Message, Progress, Refusal, Report
from tests.patience import eventually
from tests.present import present
from tests.threads import none_to_be_had
from webui.servers.board import Board, Phase, Save
from webui.servers.contact import Target, UnreachableError
from webui.servers.nudge import AT_ONCE, Nudger, outcome_of

KEY = parse_key("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAICksGFWxceR+jU7ob6NmGGtrsHQ4yyZdCVrHd79h9vUW")
FLEET = {n: Target(n, "192.0.2.1", 22, KEY) for n in ("gpu17", "gpu18")}


def report(server: str, revision: str = "abc1234def", **fields: object) -> Report:
    return Report(server=server, revision=revision, finished=1.0, seconds=0.4, **fields)  # type: ignore[arg-type]


def nudger(contact: Callable[[Target], Iterator[Message]]) -> tuple[Nudger, Board]:
    board = Board()
    return Nudger(lambda: FLEET, contact, board, lambda a, b: a == b), board


def finished(board: Board, token: str) -> Save:
    for _ in range(500):
        save = board.save(token)
        assert save is not None
        if save.finished:
            return save
        time.sleep(0.01)
    raise AssertionError("never finished")


@pytest.mark.parametrize(
    ("message", "phase", "words"),
    [
        (Progress("unpacking"), Phase.CONTACTING, "unpacking"),
        (
            report("gpu17"),
            Phase.CONVERGED,
            "converged at revision abc1234 in 0.4",
        ),
        (report("gpu17", "0ld0ld0"), Phase.PROBLEMS, "has not seen the newest change"),
        (report("gpu17", refused="unsigned"), Phase.PROBLEMS, "stays at abc1234: unsigned"),
        (
            report("gpu17", failures=(Failure("account", "ann", "x", "taken"),)),
            Phase.PROBLEMS,
            "1 problem at revision abc1234",
        ),
        (Refusal("busy", "A round is under way."), Phase.PROBLEMS, "A round is under way."),
        (Answer("hello"), Phase.PROBLEMS, "not with a report"),
    ],
)
def test_what_a_message_means(message: Message, phase: Phase, words: str) -> None:
    outcome = outcome_of("gpu17", message, "abc1234def", lambda a, b: a == b)
    assert outcome.phase is phase
    assert words in outcome.text


def test_a_dead_server_delays_nobody() -> None:
    hang = Event()

    def contact(target: Target) -> Iterator[Message]:
        if target.name == "gpu17":
            hang.wait(10)
            raise UnreachableError("nudge-unreachable", "gpu17 doesn't answer.")
        yield report(target.name)

    nudges, board = nudger(contact)
    token = nudges.saved("lqchen", "abc1234def")
    for _ in range(200):
        save = present(board.save(token))
        assert save is not None
        if save.outcomes["gpu18"].finished:
            break
        time.sleep(0.01)
    assert save.outcomes["gpu18"].phase is Phase.CONVERGED
    assert not save.outcomes["gpu17"].finished
    hang.set()
    assert finished(board, token).outcomes["gpu17"].phase is Phase.UNREACHABLE


def test_many_nudges_of_a_busy_server_become_one_more() -> None:
    calls, lock, go = [], Lock(), Event()

    def contact(target: Target) -> Iterator[Message]:
        with lock:
            calls.append(target.name)
        go.wait(10)
        yield report(target.name)

    nudges, board = nudger(contact)
    tokens = [nudges.saved("lqchen", "abc1234def") for _ in range(20)]
    go.set()
    assert all(finished(board, token).converged for token in tokens)
    assert calls.count("gpu17") <= AT_ONCE + 1


def test_a_save_does_not_wait_for_a_long_round() -> None:
    long_round, calls = Event(), []

    def contact(target: Target) -> Iterator[Message]:
        calls.append(target.name)
        if calls.count(target.name) == 1:
            long_round.wait(10)
        yield report(target.name)

    nudges, board = nudger(contact)
    slow = nudges.saved("ann", "abc1234def")
    assert finished(board, nudges.saved("lqchen", "abc1234def")).converged
    long_round.set()
    assert finished(board, slow).converged


def test_a_mistake_of_ours_ends_neither_the_lane_nor_the_save() -> None:
    broken = [True, True]

    def contact(target: Target) -> Iterator[Message]:
        if broken:
            broken.pop()
            raise ZeroDivisionError
        yield report(target.name)

    nudges, board = nudger(contact)
    first = finished(board, nudges.saved("lqchen", "abc1234def"))
    assert {o.phase for o in first.outcomes.values()} == {Phase.UNREACHABLE}
    assert finished(board, nudges.saved("lqchen", "abc1234def")).converged


def test_the_first_page_is_filled_and_a_pushed_revision_is_passed_on() -> None:
    newest = ["first"]

    def contact(target: Target) -> Iterator[Message]:
        yield report(target.name, newest[0])

    def all_at(revision: str) -> bool:
        reports = [standing.report for standing in board.standings().values()]
        return len(reports) == 2 and all(r is not None and r.revision == revision for r in reports)

    nudges, board = nudger(contact)
    nudges.watch(lambda: newest[0], look_every=0.01, refresh_every=3600)
    for revision in ("first", "pushed by a sysadmin"):
        newest[0] = revision
        for _ in range(300):
            if all_at(revision):
                break
            time.sleep(0.01)
        assert all_at(revision)
    nudges.stop()


def test_what_no_thread_could_begin_is_begun_by_the_next_look() -> None:
    def contact(target: Target) -> Iterator[Message]:
        yield report(target.name)

    nudges, board = nudger(contact)
    with none_to_be_had():
        tokens = [nudges.saved("lqchen", "abc1234def") for _ in range(AT_ONCE + 1)]
    nudges.watch(lambda: "abc1234def", look_every=0.01, refresh_every=3600)
    assert all(finished(board, token).converged for token in tokens)
    assert finished(board, nudges.saved("ann", "abc1234def")).converged
    nudges.stop()


def test_the_watcher_outlives_a_lack_of_threads(caplog: pytest.LogCaptureFixture) -> None:
    calls = []

    def contact(target: Target) -> Iterator[Message]:
        calls.append(target.name)
        yield report(target.name)

    nudges, _ = nudger(contact)
    nudges.watch(lambda: "same", look_every=0.01, refresh_every=0)
    eventually(lambda: len(calls) >= 2)
    with none_to_be_had():
        eventually(lambda: "event=background-failed work=watch code=no-thread" in caplog.text)
        calls.clear()
    eventually(lambda: {"gpu17", "gpu18"} <= set(calls))
    nudges.stop()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_lane_whose_threads_die_has_room_again() -> None:
    died: list[int] = []

    def contact(target: Target) -> Iterator[Message]:
        if target.name == "gpu17" and len(died) <= AT_ONCE:
            died.append(1)
            raise SystemExit
        yield report(target.name)

    def alive(name: str) -> bool:
        return any(thread.name == name for thread in threading.enumerate())

    def gone(count: int) -> bool:
        return len(died) == count and not alive("nudge gpu17")

    nudges, board = nudger(contact)
    for count in range(1, AT_ONCE + 2):
        nudges.saved("lqchen", "abc1234def")
        eventually(partial(gone, count))
    assert finished(board, nudges.saved("lqchen", "abc1234def")).converged


def test_a_mistake_of_ours_is_not_taken_for_a_server_that_left(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def contact(target: Target) -> Iterator[Message]:
        raise KeyError("channel")
        yield

    nudges, board = nudger(contact)
    save = finished(board, nudges.saved("lqchen", "abc1234def"))
    assert {o.text for o in save.outcomes.values()} == {"The web page made a mistake here."}
    assert "event=crashed where='nudge of gpu17'" in caplog.text


def test_a_server_that_left_meanwhile_is_said_to_have() -> None:
    fleet, board = dict(FLEET), Board()

    def targets() -> dict[str, Target]:
        return dict(fleet)

    nudges = Nudger(targets, lambda _: iter(()), board, lambda a, b: a == b)
    with none_to_be_had():
        token = nudges.saved("lqchen", "abc1234def")
    fleet.clear()
    nudges.watch(lambda: "abc1234def", look_every=0.01, refresh_every=3600)
    texts = {o.text for o in finished(board, token).outcomes.values()}
    nudges.stop()
    assert texts == {"is no longer part of the fleet"}
