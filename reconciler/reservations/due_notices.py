"""What people are to be told by mail of reservations, after a look. Pure.

Each is said again by each look for as long as it is so: `reconciler.notices` tells it once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from reconciler.reservations.book import Reservation
from reconciler.reservations.watching import UNUSED, UseRecord
from state.wire.notices import Facts, NoticeKind

HOUR = 3600.0
AHEAD = 900.0
"""Seconds: who reserved for sooner than that knows that it begins."""
SITS = 300.0
"""Seconds that who was told has time to leave, before the owner of the GPU hears of it."""


@dataclass(frozen=True)
class DueNotice:
    """One notice."""

    user: str
    kind: NoticeKind
    about: str
    facts: Facts = Facts()  # noqa: RUF009 # frozen


def due(
    reservations: Collection[Reservation], record: UseRecord, now: float
) -> Iterator[DueNotice]:
    """Of those that hold now; `now` is in seconds since the epoch."""
    for each in reservations:
        yield from _times(each, now)
        yield from _uses(each, record, now)


def over(before: UseRecord, after: UseRecord) -> Iterator[DueNotice]:
    """What was said and isn't so any more: somebody uses theirs again."""
    for name, seen in before.of.items():
        if seen.unused >= UNUSED and name in after.of and after.of[name].unused < UNUSED:
            yield DueNotice(seen.user, NoticeKind.RESERVATION_UNUSED, name)


def _times(each: Reservation, now: float) -> Iterator[DueNotice]:
    facts = Facts(len(each.gpus), at=each.begins, until=each.ends, reservation=each.id)
    if now - each.begins < HOUR and each.begins - each.made >= AHEAD:
        yield DueNotice(each.user, NoticeKind.RESERVATION_BEGINS, each.id, facts)
    if each.ends - now <= HOUR and each.ends - each.begins >= 2 * HOUR:
        # one that was extended ends once more
        yield DueNotice(each.user, NoticeKind.RESERVATION_ENDS, f"{each.id}-{each.ends:.0f}", facts)


def _uses(each: Reservation, record: UseRecord, now: float) -> Iterator[DueNotice]:
    seen = record.of.get(each.id)
    if seen is None:
        return
    count = len(each.gpus)
    if seen.unused >= UNUSED:
        facts = Facts(count, at=now - seen.unused, until=each.ends, reservation=each.id)
        yield DueNotice(each.user, NoticeKind.RESERVATION_UNUSED, each.id, facts)
    for other, seconds in seen.intruders.items():
        if seconds >= SITS:
            facts = Facts(count, until=each.ends, other=other, reservation=each.id)
            yield DueNotice(each.user, NoticeKind.ON_YOUR_GPU, f"{each.id}-{other}", facts)
