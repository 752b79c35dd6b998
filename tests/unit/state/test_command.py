"""Running another program: what is said of one that doesn't end."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from state.command import KEPT, CommandError, run
from tests.patience import HANGS

LIMITS = (0.5, 4.0, 32.0)
"""Seconds that a program gets: more where the machine was too slow for its few words."""


def _late(script: str, said: str) -> CommandError:
    for limit in LIMITS:
        with pytest.raises(CommandError) as caught:
            run(["sh", "-c", script], timeout=limit)
        assert caught.value.code == "command-timeout"
        if said in f"{caught.value.message}\n{caught.value.details}":
            return caught.value
    raise AssertionError(f"{said!r} was not said, but: {caught.value.details}")


def test_what_it_had_printed_until_then_is_in_the_details() -> None:
    begun = time.monotonic()
    error = _late(f"echo first; echo trouble >&2; exec sleep {3 * HANGS}", "\ntrouble")
    assert time.monotonic() - begun < 2 * HANGS, "it was killed"
    assert error.message.startswith("`sh` did not end within ")
    assert error.details.splitlines()[1:] == ["first", "trouble"]
    assert error.details.startswith("sh -c 'echo first; ")


def test_of_much_only_the_end_is_kept() -> None:
    error = _late(f"yes | head -c {3 * KEPT}; echo last; exec sleep {3 * HANGS}", "\nlast")
    assert error.details.endswith("y\nlast")
    assert len(error.details) < KEPT + 100


def test_that_it_printed_nothing_is_said() -> None:
    _late(f"exec sleep {3 * HANGS}", "\nit had printed nothing")


def test_what_it_had_printed_before_it_closed_its_output_is_kept() -> None:
    _late(f"echo why >&2; exec >&- 2>&- sleep {3 * HANGS}", "\nwhy")


def test_output_that_something_else_holds_is_told_from_a_program_that_hangs(
    tmp_path: Path,
) -> None:
    held = tmp_path / "held"
    held.touch()
    try:
        error = _late(f"while test -e {held}; do sleep 0.1; done & exit 3", " status 3")
    finally:
        held.unlink()
    words = "`sh` ended with status 3, but what it started did not close its output within"
    assert error.message.startswith(words)
