"""Drift: what somebody changed by hand. It is written to the journal and kept in the status."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from reconciler.host.journal import event
from state.wire.messages import MOST_DRIFT, Drift, Report

UPKEEP = frozenset({"bridge_port", "connection", "cpu_set", "lxcfs"})
"""Kinds whose things are made anew by each start of a container (also from inside), or by each
connection of a user: their changes aren't drift."""
MOST_EVENTS = 100
"""Changes of one round that the journal lists one by one."""
FIRST_PAUSE = 60.0
LONGEST_PAUSE = 3600.0
"""Seconds between two events that say the same: the pauses grow from the first to the longest."""

Write = Callable[..., None]
"""Writes an event, as `journal.event` does."""


def drift_after(before: Report | None, report: Report, *, fresh: bool = False) -> tuple[Drift, ...]:
    """The changes of a round that put back what somebody had changed.

    If the round before ended well at the same revision, then everything that this one changed was
    changed by somebody in between, unless the server booted (`fresh`) or the kind is one of UPKEEP.
    It makes no difference whether a newer revision can be fetched and taken.
    """
    if before is None or before.revision != report.revision or before.failures or fresh:
        return ()
    changed = [words for words in report.changes if words.partition(":")[0] not in UPKEEP]
    return tuple(Drift(report.finished, words) for words in changed)


def remembered(known: Sequence[Drift], new: Sequence[Drift]) -> tuple[Drift, ...]:
    """Recent drift, the newest last; what drifts again and again is listed once."""
    words = {drift.words for drift in new}
    return (*(drift for drift in known if drift.words not in words), *new)[-MOST_DRIFT:]


def write_events(before: Report | None, report: Report, write: Write = event) -> None:
    """Write to the journal what a round changed and what it could not change."""
    drifted = {drift.words for drift in report.drift if drift.when == report.finished}
    for words in report.changes[:MOST_EVENTS]:
        write("drift" if words in drifted else "changed", what=words)
    if len(report.changes) > MOST_EVENTS:
        write("changed", what=f"{len(report.changes) - MOST_EVENTS} things more")
    for failure in report.failures:
        write("failed", kind=failure.kind, name=failure.name, code=failure.code,
              message=failure.message)  # fmt: skip
    if report.refused and (before is None or before.refused != report.refused):
        write("round-refused", why=report.refused)


@dataclass
class _Told:
    """How often the journal got one event."""

    when: float
    pause: float
    untold: int = 0


class Sparing:
    """Writes events; of events that say the same, only the first is written at once.

    The number of the others is written after pauses that grow, so that something that undoes our
    changes every second doesn't fill the disk.
    """

    def __init__(self, write: Write = event, clock: Callable[[], float] = time.monotonic) -> None:
        self._write = write
        self._clock = clock
        self._told: dict[tuple[tuple[str, object], ...], _Told] = {}

    def event(self, code: str, /, **fields: object) -> None:
        """Write the event, or count it."""
        key = (("", code), *fields.items())
        if (told := self._told.get(key)) is not None:
            told.untold += 1
            return
        self._told[key] = _Told(self._clock(), FIRST_PAUSE)
        self._write(code, **fields)

    def catch_up(self) -> None:
        """Write the numbers whose pause is over, and forget events that came no more."""
        now = self._clock()
        for key, told in list(self._told.items()):
            if now - told.when < told.pause:
                continue
            if not told.untold:
                del self._told[key]
                continue
            (_, code), *fields = key
            self._write(str(code), **dict(fields), times=told.untold)
            self._told[key] = _Told(now, min(2 * told.pause, LONGEST_PAUSE))
