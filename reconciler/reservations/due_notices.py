"""Finds what users are to be told by mail about reservations, after a look. Pure.

Each look says a notice again as long as it is true; `reconciler.notices` sends it once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from reconciler.reservations.book import Reservation
from reconciler.reservations.watching import UNUSED, UseRecord
from state.wire.notices import Facts, NoticeKind

HOUR = 3600.0
AHEAD = 900.0
"""A reservation made less than this before its beginning gets no mail that it begins, in seconds.
"""
SITS = 300.0
"""Seconds that an intruder has to leave before the owner of the reservation is told."""


@dataclass(frozen=True)
class DueNotice:
    """One notice that is due."""

    user: str
    kind: NoticeKind
    about: str
    facts: Facts = Facts()  # noqa: RUF009 # frozen


def due(
    reservations: Collection[Reservation], record: UseRecord, now: float
) -> Iterator[DueNotice]:
    """The notices about reservations that are in force; `now`: seconds since the epoch."""
    for each in reservations:
        yield from _times(each, now)
        yield from _uses(each, record, now)


def over(before: UseRecord, after: UseRecord) -> Iterator[DueNotice]:
    """The notices to withdraw: their users use the reserved GPUs again."""
    for name, seen in before.of.items():
        if seen.unused >= UNUSED and name in after.of and after.of[name].unused < UNUSED:
            yield DueNotice(seen.user, NoticeKind.RESERVATION_UNUSED, name)


def _times(each: Reservation, now: float) -> Iterator[DueNotice]:
    facts = Facts(len(each.gpus), at=each.begins, until=each.ends, reservation=each.id)
    if now - each.begins < HOUR and each.begins - each.made >= AHEAD:
        yield DueNotice(each.user, NoticeKind.RESERVATION_BEGINS, each.id, facts)
    if each.ends - now <= HOUR and each.ends - each.begins >= 2 * HOUR:
        # the end is in the name, so that an extended one is told of again
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
