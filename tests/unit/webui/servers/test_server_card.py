"""What the page says about a server: quiet when all is well, plain when it isn't."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from state.wire.messages import Drift, Failure, Report
from tests.unit.state.state_files import state
from webui import events
from webui.events import Code
from webui.servers.board import Board, NudgeOutcome, Phase, ServerStanding
from webui.servers.nudge import outcome_of
from webui.servers.server_card import ServerCard, failures_of, server_card

SERVER = state().servers["gpu17"]


def report(**fields: object) -> Report:
    said = {"server": "gpu17", "revision": "abc1234def", "finished": 1000.0, "seconds": 0.4}
    return Report(**{**said, **fields})  # type: ignore[arg-type]


def standing(
    given: Report | None, phase: Phase = Phase.CONVERGED, heard: float = 1000
) -> ServerStanding:
    return ServerStanding(
        NudgeOutcome("gpu17", phase, "in words", "a hint", since=900.0), given, heard
    )


def card(given: ServerStanding | None, behind: int | None = 0) -> ServerCard:
    return server_card("gpu17", SERVER, given, behind, ("ann", "lqchen"))


def test_all_is_well_is_no_line_at_all() -> None:
    shown = card(standing(report()))
    assert (shown.word, shown.phase, shown.lines, shown.failures) == (
        "converged", "converged", (), (),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("given", "behind", "word", "said"),
    [
        (None, 0, "not asked yet", ""),
        (standing(None, Phase.UNREACHABLE), 0, "never reached", "Never reached"),
        (standing(report(), Phase.UNREACHABLE), 0, "unreachable", "Silent"),
        (standing(report()), 3, "catching up", ""),
        (standing(report()), None, "catching up", ""),
        (standing(report(refused="it is unsigned")), 1, "needs a look", "it is unsigned"),
        (standing(report(suspended="new disks")), 0, "suspended", "new disks"),
        (standing(report(finished=1400.0)), 0, "converged", "7 minutes ahead"),
        (standing(report(finished=600.0)), 0, "converged", "7 minutes behind"),
    ],
)
def test_what_is_wrong_is_said(
    given: ServerStanding | None, behind: int | None, word: str, said: str
) -> None:
    shown = card(given, behind)
    assert shown.word == word
    text = " ".join(f"{line.title} {line.text}" for line in shown.lines)
    assert said in text
    assert bool(said) == bool(text)


def test_failures_stand_with_their_users_and_drift_with_the_newest_first() -> None:
    failures = (
        Failure("account", "lqchen", "uid-taken", "The uid is taken.", "Free it."),
        Failure("network", "-", "bridge", "No bridge."),
        Failure("container", "ann", "disk-full", "No room."),
    )
    drift = (Drift(1.0, "put a rule back"), Drift(2.0, "put a key back"))
    shown = card(standing(report(failures=failures, drift=drift)))
    assert [owner for owner, _ in shown.failures] == ["", "ann", "lqchen"]
    assert shown.failure_count == 3
    assert shown.drift[0].words == "put a key back"
    own = failures_of("lqchen", {"gpu17": standing(report(failures=failures))})
    assert own == {"gpu17": (failures[0],)}


def test_a_silent_servers_last_report_is_kept() -> None:
    now = [100.0]
    board = Board(clock=lambda: now[0])
    board.post(NudgeOutcome("gpu17", Phase.UNREACHABLE, "no answer"), ())
    assert board.standings()["gpu17"].report is None
    board.post(NudgeOutcome("gpu17", Phase.CONVERGED, "fine", report=report()), ())
    for now[0] in (200.0, 300.0):
        board.post(NudgeOutcome("gpu17", Phase.UNREACHABLE, "no answer"), ())
    found = board.standings()["gpu17"]
    assert found.report == report()
    assert (found.heard, found.outcome.since) == (100.0, 200.0)


def test_a_suspended_server_is_no_failure_of_a_save() -> None:
    held = report(suspended="new disks", revision="0ld")
    outcome = outcome_of("gpu17", held, "abc1234def", lambda a, b: a == b)
    assert (outcome.phase, outcome.finished) == (Phase.SUSPENDED, True)
    assert "new disks" in outcome.text


def test_an_event_is_one_line_whatever_is_in_it() -> None:
    said = events.line(Code.SAVED, user="lqchen", source="10.0.0.1", keys=2, why="a\nb 'c'")
    assert said == "event=saved user=lqchen source=10.0.0.1 keys=2 why=\"a\\nb 'c'\""
    assert "\n" not in events.line(Code.REFUSED, details="x\ny\r\x1b[31m")
    assert events.line(Code.REFUSED, details="") == "event=refused details=''"


def test_every_code_is_explained_and_none_is_written_past_the_table() -> None:
    import webui

    for path in Path(webui.__file__).parent.rglob("*.py"):
        if path.name != "events.py":
            assert '"event=' not in path.read_text(), path
    assert all(code.value.replace("-", "").isalpha() for code in Code)


def test_a_crash_brings_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    log = logging.getLogger("webui.test")
    try:
        raise ZeroDivisionError
    except ZeroDivisionError:
        events.crashed(log, "here")
    assert "event=crashed where=here" in caplog.text
    assert "ZeroDivisionError" in caplog.text
