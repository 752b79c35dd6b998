"""The book: every reservation of a server's GPUs. Pure.

Times are seconds since the epoch, by the server's clock, in whole minutes: so every moment that is
named can be typed. A reservation holds from `begins` until just before `ends`. Whatever the clock
does, no two of them have the same GPU at the same time: that is asked of their times alone, never
of what time it is now.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from time import localtime, strftime
from types import MappingProxyType

from state.errors import LxcGpuError

MINUTE, HOUR, DAY = 60, 3600, 86400
KEPT = 90 * DAY
"""Seconds that a past reservation is kept for; then it is only part of a sum."""
NEAR = 2 * DAY
"""Seconds that it stays among the open ones, of which many don't pile up there: a clock that is
wrong by hours hides nothing."""
MOST_PAST = 20_000
"""Past ones that are kept at most: so the file has an end."""
MOST_OPEN = 500
"""Reservations of everybody's that aren't over, and of those that lately were."""
LEAP = 30 * DAY
"""Seconds that the clock is believed ahead of what the machine's running bears out. So far less
than `KEPT` that a leap makes a sum of nothing that ends within the two months after it."""


def minute(moment: float) -> float:
    """The beginning of that minute."""
    return moment // MINUTE * MINUTE


@dataclass(frozen=True)
class Reservation:
    """Somebody's, of GPUs, from a moment to another one."""

    id: str
    """What people type: `r17`."""
    user: str
    gpus: tuple[str, ...]
    """UUIDs."""
    begins: float
    ends: float
    made: float
    series: str = ""
    """`s16`: what those of one weekly series have in common."""
    maker: str = ""
    """Who reserved it, if that is somebody else, who handed it over."""
    since: float = 0.0
    """When it began, if it was handed over under way; 0: at `begins`."""

    @property
    def made_by(self) -> str:
        """Who reserved it, whoever has it now."""
        return self.maker or self.user

    @property
    def began(self) -> float:
        """When it began, whoever had it then."""
        return self.since or self.begins

    def holds(self, now: float) -> bool:
        """Whether it is under way."""
        return self.begins <= now < self.ends

    def meets(self, begins: float, ends: float) -> bool:
        """Whether it has a moment in common with that time."""
        return self.begins < ends and begins < self.ends


Times = tuple[tuple[float, float], ...]
"""From when until when."""


@dataclass(frozen=True)
class Book:
    """Everybody's, in the order of their beginnings; what is long past only as sums."""

    open: tuple[Reservation, ...] = ()
    """Those that weren't over for two days when the book was last written."""
    past: tuple[Reservation, ...] = ()
    sums: Mapping[str, Mapping[str, float]] = field(default_factory=lambda: MappingProxyType({}))
    """GPU-hours that were reserved, by user and month (`2026-11`), of those that are forgotten."""
    last: int = 0
    """The number that was given last: none is given twice."""
    clock: float = 0.0
    """Until when it was aged last: what was over by then may be among the past."""
    sure: float = 0.0
    """What time it is at least, as far as the machine's running bears it out (`aged`)."""
    boot: float = 0.0
    """When it was aged last, by the boot's clock."""

    def at(self, now: float) -> tuple[Reservation, ...]:
        """Those under way."""
        return tuple(each for each in self.open if each.holds(now))

    def ahead(self, now: float) -> tuple[Reservation, ...]:
        """Those under way, and those to come."""
        return tuple(each for each in self.open if each.ends > now)

    def of(self, user: str, now: float = 0.0) -> tuple[Reservation, ...]:
        """The user's, without those that are over by then."""
        return tuple(each for each in self.open if each.user == user and each.ends > now)

    def made_by(self, user: str, now: float) -> tuple[Reservation, ...]:
        """What the user reserved that isn't over, whoever has it now."""
        return tuple(each for each in self.ahead(now) if each.made_by == user)

    def free(self, gpus: Sequence[str], times: Times) -> tuple[str, ...]:
        """Which of the GPUs nobody has reserved at any of those times, in the same order."""
        taken = {
            gpu
            for each in self.open
            for begins, ends in times
            if each.meets(begins, ends)
            for gpu in each.gpus
        }
        return tuple(gpu for gpu in gpus if gpu not in taken)

    def held_by(self, user: str, begins: float, ends: float, without: str = "") -> int:
        """How many GPUs the user has at the most at one moment of that time."""
        met = [
            each for each in self.open
            if each.user == user and each.id != without and each.meets(begins, ends)
        ]  # fmt: skip
        moments = {max(begins, each.begins) for each in met}
        return max((sum(len(r.gpus) for r in met if r.holds(m)) for m in moments), default=0)

    def reserve(
        self, user: str, gpus: Sequence[str], times: Times, now: float
    ) -> tuple[Book, tuple[Reservation, ...]]:
        """These GPUs for the user at each of those times: several are a series.

        They are free then. LxcGpuError if the server's book is full.
        """
        if len(self.ahead(now)) + len(times) > MOST_OPEN:
            raise LxcGpuError(
                "reservations-full",
                f"{MOST_OPEN} reservations stand on this server, as many as may be.",
                "Try again when some are over, or `release` what you don't need.",
            )
        if len(self.free(gpus, times)) != len(gpus):
            raise ValueError("these GPUs aren't free")
        series = f"s{self.last + 1}" if len(times) > 1 else ""
        made = tuple(
            Reservation(f"r{self.last + number}", user, tuple(gpus), *when, now, series)
            for number, when in enumerate(times, 1)
        )
        return self._with(*made, last=self.last + len(made)), made

    def release(self, released: Iterable[Reservation], now: float) -> Book:
        """Without these. What has begun ends now, and stays as long as it was."""
        gone = {each.id: each for each in released}
        left = [each for each in self.open if each.id not in gone]
        ended = [_until(each, minute(now)) for each in gone.values() if each.begins < minute(now)]
        return replace(self, open=_in_order([*left, *ended]))

    def extend(self, reservation: Reservation, ends: float) -> tuple[Book, Reservation]:
        """The same until then. Its GPUs are free meanwhile."""
        if len(self.free(reservation.gpus, ((reservation.ends, ends),))) != len(reservation.gpus):
            raise ValueError("these GPUs aren't free")
        longer = _until(reservation, ends)
        return self._instead(reservation, longer), longer

    def hand_over(
        self, reservation: Reservation, user: str, now: float
    ) -> tuple[Book, Reservation]:
        """What is left of it is that user's; what was before remains whose it was."""
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
        """Without what people have ahead who are not registered here any more."""
        known = frozenset(residents)
        return self.release((r for r in self.ahead(now) if r.user not in known), now)

    def without(self, user: str) -> Book:
        """Without everything of this user's, the past and the sums, too."""
        return replace(
            self,
            open=_without(self.open, user),
            past=_without(self.past, user),
            sums={name: months for name, months in self.sums.items() if name != user},
        )

    def aged(self, now: float, boot: float) -> Book:
        """The same, with what is over among the past, and what is long past as sums.

        `boot` is the boot's clock, which nobody sets. A clock that leaps ahead for years must lose
        nobody's reservation, however much is changed meanwhile: it is believed `LEAP` at once, and
        two days for each that the machine ran, so that what was off for months catches up. What
        isn't over by it is open again.
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

    def _sure(self, now: float, boot: float) -> float:
        before = self.sure or self.clock
        if not before:
            return now
        ran = boot - self.boot if boot >= self.boot else boot  # after a reboot: at least so long
        return max(before, min(now, before + 2 * ran * bool(self.boot)))

    def _with(self, *more: Reservation, last: int) -> Book:
        return replace(self, open=_in_order([*self.open, *more]), last=last)

    def _instead(self, old: Reservation, new: Reservation) -> Book:
        return replace(self, open=_in_order([new if r.id == old.id else r for r in self.open]))


def _in_order(reservations: Iterable[Reservation]) -> tuple[Reservation, ...]:
    return tuple(sorted(reservations, key=lambda each: (each.begins, each.id)))


def _without(reservations: Iterable[Reservation], user: str) -> tuple[Reservation, ...]:
    """Without this user's; what they handed over is wholly another's."""
    left = (each for each in reservations if each.user != user)
    return tuple(replace(each, maker="") if each.maker == user else each for each in left)


def _until(reservation: Reservation, ends: float) -> Reservation:
    return replace(reservation, ends=ends)


def _summed(
    sums: Mapping[str, Mapping[str, float]], forgotten: Iterable[Reservation]
) -> Mapping[str, Mapping[str, float]]:
    """With these: each counts in the month in which it began."""
    added = {user: dict(months) for user, months in sums.items()}
    for each in forgotten:
        months, month = added.setdefault(each.user, {}), strftime("%Y-%m", localtime(each.begins))
        hours = len(each.gpus) * (each.ends - each.begins) / HOUR
        months[month] = round(months.get(month, 0.0) + hours, 4)
    return added
