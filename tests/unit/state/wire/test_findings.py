"""The doctor's checks fail, hang and lie without taking the others with them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from state.errors import LxcGpuError
from state.wire.findings import Area, Finding, Level, examine, from_json, to_json, worst_last
from tests.patience import HANGS
from tests.threads import none_to_be_had

area = Area("test")


def fine(_: None) -> Iterator[Finding]:
    yield area.ok("fine")


def with_an_error(_: None) -> Iterator[Finding]:
    yield area.note("before")
    raise LxcGpuError("down", "It is down.", "Start it.")


def with_a_bug(_: None) -> Iterator[Finding]:
    raise ZeroDivisionError
    yield


def unreadable(_: None) -> Iterator[Finding]:
    Path("/nonexistent/file").read_text()
    yield area.ok("never")


def that_hangs(_: None) -> Iterator[Finding]:
    yield area.ok("before it hung")
    threading.Event().wait()


def test_what_fails_is_a_finding_and_the_others_go_on() -> None:
    found = examine((with_an_error, with_a_bug, unreadable, fine), None)
    assert [f.level for f in found] == ["note", "wrong", "wrong", "wrong", "ok"]
    assert found[1].text == "`with an error` can't be looked at: It is down."
    assert found[1].hint == "Start it."
    assert "ZeroDivisionError" in found[2].text
    assert "/nonexistent/file: No such file" in found[3].text


def test_what_hangs_is_left_alone_in_time() -> None:
    begun = time.monotonic()
    found = examine((that_hangs, that_hangs, fine), None, patience=0.5)
    assert time.monotonic() - begun < HANGS
    assert [f.level for f in found] == ["ok", "wrong", "ok", "wrong", "ok"]
    assert "`that hangs` took longer" in found[1].text


def test_a_fault_that_several_checks_meet_is_told_once() -> None:
    """By the first of them, which knows most; unless it is worse for a later one."""
    away, full = LxcGpuError("x", "It is away.", "Sysadmin: mount it."), LxcGpuError("y", "Full.")

    def first(_: None) -> Iterator[Finding]:
        yield area.met(away)
        yield area.met(full, level=Level.NOTE)

    def second(_: None) -> Iterator[Finding]:
        yield area.met(away, "It failed: It is away.")
        yield area.met(full, "It failed for ann: Full.")
        yield area.met(full, "It failed for bob: Full.")

    found = examine((first, second, second), None)
    assert [f.text for f in found] == [
        "It is away.", "Full.", "It failed for ann: Full.", "It failed for bob: Full.",
    ]  # fmt: skip
    assert found[0].hint == "mount it."


def test_the_worst_is_last_and_the_rest_in_order() -> None:
    mixed = [area.wrong("w"), area.ok("a"), area.note("n"), area.ok("b")]
    assert [f.text for f in worst_last(mixed)] == ["a", "b", "n", "w"]


def test_findings_survive_the_way_between_two_programs() -> None:
    mixed = [area.wrong("w ü", "do; this"), area.ok("a")]
    assert from_json(to_json(mixed)) == mixed
    assert '"healthy": false' in to_json(mixed)
    assert from_json(to_json(mixed))[0].level is Level.WRONG


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"findings": [{}]}', "Traceback"])
def test_what_is_no_finding_is_not_taken_for_one(text: str) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        from_json(text)


def test_a_machine_without_another_thread_is_a_finding() -> None:
    with none_to_be_had():
        findings = examine([fine], None)
    (found,) = findings
    assert found.level is Level.WRONG
    assert "can't start new thread" in found.text
    assert "memory" in found.hint
