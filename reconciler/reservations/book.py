"""The book: every reservation of a server's GPUs. Pure.

Times are seconds since the epoch, by the server's clock, in whole minutes, so that each can be
typed. A reservation is in force from `begins` until just before `ends`. No two of them have the
same GPU at the same time, even if the clock is wrong: only their times are compared, never the
present time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from time import localtime, strftime
from types import MappingProxyType
from typing import Annotated

from state.errors import LxcGpuError

MINUTE, HOUR, DAY = 60, 3600, 86400
KEPT = 90 * DAY
"""Seconds that a past reservation is kept; afterwards it only counts in a sum."""
NEAR = 2 * DAY
"""Seconds that a past reservation stays among the open ones, so that a clock that is wrong by hours
hides none."""
MOST_PAST = 20_000
"""Past reservations that are kept at most, so that the file stays small."""
MOST_OPEN = 500
"""Reservations of everybody that aren't over, at most; and those that lately ended, at most."""
LEAP = 30 * DAY
"""How far a wall clock may jump ahead of the machine's running time and still be believed, in
seconds. It is far below `KEPT`, so that after a jump no reservation that ends within two months
becomes a sum."""

LATEST = 32_503_680_000.0
"""The year 3000."""
LONGEST_WORD = 128
"""Letters."""


def minute(moment: float) -> float:
    """The beginning of the minute of `moment`."""
    return moment // MINUTE * MINUTE


def _word(text: str) -> str:
    if len(text) > LONGEST_WORD:
        raise ValueError("no word")
    return text


def _moment(value: float) -> float:
    if not 0 <= value <= LATEST:
        raise ValueError("no moment")
    return value


Word = Annotated[str, _word]
Moment = Annotated[float, _moment]


@dataclass(frozen=True)
class Reservation:
    """GPUs that are one user's from one moment to another."""

    id: Word
    """What people type: `r17`."""
    user: Word
    gpus: tuple[Word, ...]
    """UUIDs."""
    begins: Moment
    ends: Moment
    made: Moment
    series: Word = ""
    """The id of a weekly series, `s16`, which its reservations share; empty: none."""
    maker: Word = ""
    """The user who reserved it and handed it over; empty: the user above."""
    since: Moment = 0.0
    """When it began, if it was handed over after its beginning; 0: at `begins`."""

    @property
    def made_by(self) -> str:
        """Who reserved it, whoever has it now."""
        return self.maker or self.user

    @property
    def began(self) -> float:
        """When it began, whoever had it then."""
        return self.since or self.begins

    def in_force(self, now: float) -> bool:
        """Whether it is under way."""
        return self.begins <= now < self.ends

    def meets(self, begins: float, ends: float) -> bool:
        """Whether it overlaps that time."""
        return self.begins < ends and begins < self.ends


Times = tuple[tuple[float, float], ...]
"""Pairs of beginning and end."""


@dataclass(frozen=True)
class Book:
    """All reservations, in the order of their beginnings. Those long past are kept as sums only."""

    open: tuple[Reservation, ...] = ()
    """Current and future ones, and those that had ended less than two days before the book was
    last written."""
    past: tuple[Reservation, ...] = ()
    sums: Mapping[str, Mapping[str, Moment]] = field(default_factory=lambda: MappingProxyType({}))
    """GPU-hours of reservations that aren't kept any more, by user and month (`2026-11`)."""
    last: int = 0
    """The last number that was given to a reservation. None is given twice."""
    clock: Moment = 0.0
    """The time by which it was last aged: reservations that ended before may be among the past."""
    sure: Moment = 0.0
    """The earliest time that it can be now, by how long the machine has run (`aged`)."""
    boot: Moment = 0.0
    """When it was last aged, in seconds since the boot."""

    def at(self, now: float) -> tuple[Reservation, ...]:
        """Those under way."""
        return tuple(each for each in self.open if each.in_force(now))

    def ahead(self, now: float) -> tuple[Reservation, ...]:
        """Those under way, and those to come."""
        return tuple(each for each in self.open if each.ends > now)

    def of(self, user: str, now: float = 0.0) -> tuple[Reservation, ...]:
        """The user's reservations that aren't over by `now`."""
        return tuple(each for each in self.open if each.user == user and each.ends > now)

    def made_by(self, user: str, now: float) -> tuple[Reservation, ...]:
        """What the user reserved and isn't over, including what was handed over."""
        return tuple(each for each in self.ahead(now) if each.made_by == user)

    def unreserved(self, gpus: Sequence[str], times: Times) -> tuple[str, ...]:
        """Those of the GPUs that nobody has reserved at any of the times, in the same order."""
        taken = {
            gpu
            for each in self.open
            for begins, ends in times
            if each.meets(begins, ends)
            for gpu in each.gpus
        }
        return tuple(gpu for gpu in gpus if gpu not in taken)

    def reserved_by(self, user: str, begins: float, ends: float, without: str = "") -> int:
        """The most GPUs that the user has reserved at one moment of that time."""
        met = [
            each for each in self.open
            if each.user == user and each.id != without and each.meets(begins, ends)
        ]  # fmt: skip
        moments = {max(begins, each.begins) for each in met}
        return max((sum(len(r.gpus) for r in met if r.in_force(m)) for m in moments), default=0)

    def reserve(
        self, user: str, gpus: Sequence[str], times: Times, now: float
    ) -> tuple[Book, tuple[Reservation, ...]]:
        """Reserve these GPUs for the user at each of the times; several times make a series.

        The GPUs have to be free then. LxcGpuError if the server's book is full.
        """
        if len(self.ahead(now)) + len(times) > MOST_OPEN:
            raise LxcGpuError(
                "reservations-full",
                f"This server has {MOST_OPEN} reservations, the most that are allowed.",
                "Try again when some are over, or `release` what you don't need.",
            )
        if len(self.unreserved(gpus, times)) != len(gpus):
            raise ValueError("these GPUs aren't free")
        series = f"s{self.last + 1}" if len(times) > 1 else ""
        made = tuple(
            Reservation(f"r{self.last + number}", user, tuple(gpus), *when, now, series)
            for number, when in enumerate(times, 1)
        )
        return self._with(*made, last=self.last + len(made)), made

    def release(self, released: Iterable[Reservation], now: float) -> Book:
        """Release these reservations. One that has begun ends now, and its past part is kept."""
        gone = {each.id: each for each in released}
        left = [each for each in self.open if each.id not in gone]
        ended = [_until(each, minute(now)) for each in gone.values() if each.begins < minute(now)]
        return replace(self, open=_in_order([*left, *ended]))

    def extend(self, reservation: Reservation, ends: float) -> tuple[Book, Reservation]:
        """Extend a reservation until `ends`. Its GPUs have to be free meanwhile."""
        gpus = reservation.gpus
        if len(self.unreserved(gpus, ((reservation.ends, ends),))) != len(gpus):
            raise ValueError("these GPUs aren't free")
        longer = _until(reservation, ends)
        return self._instead(reservation, longer), longer

    def hand_over(
        self, reservation: Reservation, user: str, now: float
    ) -> tuple[Book, Reservation]:
        """Give the rest of a reservation to another user. Its past part stays with the first."""
        maker, begins = reservation.made_by, max(reservation.begins, minute(now))
        theirs = replace(
            reservation, user=user, begins=begins, maker="" if maker == user else maker
        )
        if begins == reservation.begins:
            return self._instead(reservation, theirs), theirs
        theirs = replace(theirs, since=reservation.began)
        before = replace(_until(reservation, theirs.begins), id=f"r{self.last + 1}")
        return self._instead(reservation, theirs)._with(before, last=self.last + 1), theirs

    def only_of(self, residents: Iterable[str], now: float) -> Book:
        """Release what users have ahead who are not registered here any more."""
        known = frozenset(residents)
        return self.release((r for r in self.ahead(now) if r.user not in known), now)

    def without(self, user: str) -> Book:
        """Remove everything of this user, including the past and the sums."""
        return replace(
            self,
            open=_without(self.open, user),
            past=_without(self.past, user),
            sums={name: months for name, months in self.sums.items() if name != user},
        )

    def aged(self, now: float, boot: float) -> Book:
        """Move what is over to the past, and turn what is long past into sums.

        `boot`: seconds since the boot, by a clock that nobody sets. A wall clock that leaps ahead
        by years must not lose reservations. So it is believed `LEAP` ahead at once, and two days
        further for each day that the machine runs, so that a machine that was off for months
        catches up. Reservations that aren't over by the believed time are open again.
        """
        sure = self._sure(now, boot)
        until = min(now, sure + LEAP)
        every = [*self.past, *self.open]
        over = sorted((r for r in every if r.ends <= until), key=lambda each: each.ends)
        near = [each for each in over if each.ends > until - NEAR][-MOST_OPEN:]
        past = over[: len(over) - len(near)]
        kept = [each for each in past if each.ends > until - KEPT][-MOST_PAST:]
        forgotten = past[: len(past) - len(kept)]
        return Book(
            open=_in_order([*near, *(each for each in every if each.ends > until)]),
            past=_in_order(kept),
            sums=_summed(self.sums, forgotten) if forgotten else self.sums,
            last=self.last,
            clock=until,
            sure=sure,
            boot=boot,
        )

    def in_order(self) -> Book:
        """This book, with its reservations in the order of their beginnings."""
        return replace(self, open=_in_order(self.open), past=_in_order(self.past))

    def _sure(self, now: float, boot: float) -> float:
        before = self.sure or self.clock
        if not before:
            return now
        # after a reboot, the machine has run for at least `boot`
        ran = boot - self.boot if boot >= self.boot else boot
        return max(before, min(now, before + 2 * ran * bool(self.boot)))

    def _with(self, *more: Reservation, last: int) -> Book:
        return replace(self, open=_in_order([*self.open, *more]), last=last)

    def _instead(self, old: Reservation, new: Reservation) -> Book:
        return replace(self, open=_in_order([new if r.id == old.id else r for r in self.open]))


def _in_order(reservations: Iterable[Reservation]) -> tuple[Reservation, ...]:
    return tuple(sorted(reservations, key=lambda each: (each.begins, each.id)))


def _without(reservations: Iterable[Reservation], user: str) -> tuple[Reservation, ...]:
    """Those of other users, without a trace of this one as their maker."""
    left = (each for each in reservations if each.user != user)
    return tuple(replace(each, maker="") if each.maker == user else each for each in left)


def _until(reservation: Reservation, ends: float) -> Reservation:
    return replace(reservation, ends=ends)


def _summed(
    sums: Mapping[str, Mapping[str, float]], forgotten: Iterable[Reservation]
) -> Mapping[str, Mapping[str, float]]:
    """The sums with these added: each counts in the month in which it began."""
    added = {user: dict(months) for user, months in sums.items()}
    for each in forgotten:
        months, month = added.setdefault(each.user, {}), strftime("%Y-%m", localtime(each.begins))
        hours = len(each.gpus) * (each.ends - each.begins) / HOUR
        months[month] = round(months.get(month, 0.0) + hours, 4)
    return added
