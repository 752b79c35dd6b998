"""What one look at reserved GPUs comes to: who is on somebody else's, and who leaves theirs unused.

A look comes each minute; here, what it sees is added to what was known. Lengths of time are counted
by a clock that nobody sets, and what nobody looked at doesn't count. Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace

from reconciler.reservations.book import Reservation

UNUSED = 3600.0
"""Seconds without a program of their own after which somebody leaves their reservation unused."""
LONGEST_GAP = 300.0
"""Seconds between two looks that count at most."""
REST = 86400.0
"""Seconds for which a container that let us wait is told nothing: what waits in it stays there."""
MOST_TOLD = 100
"""Programs of one user on one reservation's GPUs that are remembered as told: nobody fills memory
with theirs, and who has more is told of them again, and nobody else."""


Which = tuple[int, int]
"""A program: its number, and when it began, for numbers come again."""


@dataclass(frozen=True, order=True)
class Program:
    """A program of a user's container that has memory of a GPU."""

    user: str
    pid: int
    started: int
    """Ticks after boot."""

    @property
    def which(self) -> Which:
        """Tells it from every other one of this boot."""
        return self.pid, self.started


@dataclass(frozen=True)
class ReservationUse:
    """What is known of a reservation that holds now."""

    user: str
    """Whose it is: one that was handed over begins anew."""
    unused: float = 0.0
    """Seconds for which no program of theirs was on any of its GPUs."""
    intruders: Mapping[str, float] = field(default_factory=dict)
    """Others with a program on one of them, and the seconds for which they have had one."""
    told: Mapping[str, tuple[Which, ...]] = field(default_factory=dict)
    """The programs that their users were told of, the latest first."""


@dataclass(frozen=True)
class UseRecord:
    """What the last look left."""

    looked: float = 0.0
    """When, in seconds since the boot."""
    of: Mapping[str, ReservationUse] = field(default_factory=dict)
    """By reservation."""
    resting: Mapping[str, float] = field(default_factory=dict)
    """Whose containers let us wait, and until when, by the boot's clock, they are told nothing."""


@dataclass(frozen=True)
class Intrusion:
    """Somebody to be told: programs that they weren't told of are on another one's GPUs."""

    user: str
    reservation: Reservation
    gpus: tuple[str, ...]


@dataclass(frozen=True)
class LookResult:
    """What is known after a look, and who is to be told."""

    record: UseRecord
    intrusions: tuple[Intrusion, ...] = ()


Programs = Mapping[str, Collection[Program]]
"""Of residents' containers, by GPU; one that isn't named is one that nothing is known of."""


def judge(
    before: UseRecord, now: float, reservations: Collection[Reservation], programs: Programs | None
) -> LookResult:
    """What a look comes to; `reservations` are those that hold now, `now` is the boot's clock.

    Where the driver doesn't say who is on its GPUs (`programs` is None, or hasn't got one of them),
    nobody is named or told for that, and nothing counts as unused.
    """
    known = before.of if before.looked <= now else {}
    passed = min(now - before.looked, LONGEST_GAP)
    found, intrusions = dict[str, ReservationUse](), list[Intrusion]()
    for each in reservations:
        old = known.get(each.id)
        if old is None or old.user != each.user:
            old, counts = ReservationUse(each.user), 0.0
        else:
            counts = passed
        if programs is None:
            found[each.id] = replace(old, intruders={})
            continue
        on_it = {gpu: programs[gpu] for gpu in each.gpus if gpu in programs}
        found[each.id] = _seen(old, each, on_it, counts)
        intrusions += _to_tell(each, old, on_it)
    resting = {u: until for u, until in before.resting.items() if now < until <= now + REST}
    return LookResult(
        UseRecord(now, found, resting),
        tuple(each for each in intrusions if each.user not in resting),
    )


def rested(record: UseRecord, users: Collection[str]) -> UseRecord:
    """The same, where these users' containers let us wait just now."""
    until = dict.fromkeys(users, record.looked + REST)
    return replace(record, resting={**record.resting, **until})


def _seen(
    old: ReservationUse, reservation: Reservation, on_it: Programs, passed: float
) -> ReservationUse:
    everything = {program for there in on_it.values() for program in there}
    used = any(program.user == old.user for program in everything)
    known = len(on_it) == len(reservation.gpus)
    others = dict[str, list[Which]]()
    for program in sorted(everything):
        if program.user != old.user:
            others.setdefault(program.user, []).append(program.which)
    told = {user: (*theirs, *(w for w in old.told.get(user, ()) if w not in theirs))[:MOST_TOLD]
            for user, theirs in others.items()}  # fmt: skip
    return ReservationUse(
        old.user,
        0.0 if used else old.unused + passed * known,
        {user: old.intruders[user] + passed if user in old.intruders else 0.0 for user in others},
        {**old.told, **told},
    )


def _to_tell(reservation: Reservation, old: ReservationUse, on_it: Programs) -> Iterator[Intrusion]:
    """Whom to tell of which GPUs of it."""
    gpus = dict[str, list[str]]()
    for gpu, there in on_it.items():
        new = {p.user for p in there if p.which not in old.told.get(p.user, ())} - {old.user}
        for user in new:
            gpus.setdefault(user, []).append(gpu)
    for user, theirs in sorted(gpus.items()):
        yield Intrusion(user, reservation, tuple(theirs))
