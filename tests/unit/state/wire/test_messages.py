"""Messages on their way between machines: what no page could show is no message."""

from __future__ import annotations

import os

import pytest

from state.view import Mount
from state.wire.messages import (
    LATEST,
    Answer,
    BadMessageError,
    Drift,
    Failure,
    Report,
    decode,
    encode,
)

REPORT = Report(
    "gpu17", "abc", LATEST, 1.5, ("x",), (Failure("account", "ann", "busy", "It is."),),
    drift=(Drift(LATEST, "put back"),), key_days={f"SHA256:{'a' * 43}": "2026-11-26"},
)  # fmt: skip
MOUNT = Mount("/data", "/data", "read", mounted=True)


def test_what_is_said_is_what_is_heard() -> None:
    assert decode(encode(REPORT)) == REPORT


@pytest.mark.parametrize("moment", ["1e999", "-1e999", "NaN", "1e300", "-1", "9" * 400, "null"])
@pytest.mark.parametrize("place", ["finished", "when"])
def test_a_moment_that_no_calendar_has_is_refused(place: str, moment: str) -> None:
    line = encode(REPORT).replace(f'"{place}": {LATEST}', f'"{place}": {moment}')
    assert moment in line
    with pytest.raises(BadMessageError):
        decode(line)


def test_a_long_table_arrives_whole() -> None:
    """One of 500 reservations, say."""
    table = Answer("\n".join(["r17  lqchen  0,1  Thu 2026-11-26 17:00 UTC"] * 500))
    assert decode(encode(table)) == table


def test_a_name_that_is_no_text_hides_no_message() -> None:
    """A container's user chooses it, and an error may say it."""
    name = os.fsdecode(b"a\xff")
    failure = Failure("system", "ann", "hostile", f"Below /x: {name}: No such file.")
    report = decode(encode(REPORT._replace(failures=(failure,))).encode())
    assert isinstance(report, Report)
    assert report.failures[0].message == "Below /x: a?: No such file."
    assert decode(encode(Answer("", {"name": name})).encode()) == Answer("", {"name": "a?"})


def test_facts_may_hold_data_of_ours() -> None:
    said = decode(encode(Answer("", {"mounts": [MOUNT]})))
    assert isinstance(said, Answer)
    assert said.facts == {"mounts": [vars(MOUNT)]}
