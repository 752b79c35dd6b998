"""Judges a look at reserved GPUs: who is on somebody else's, and who leaves theirs unused. Pure.

A look comes each minute; what it sees is added to the record. Time is counted by a clock that
nobody sets. Time without looks doesn't count.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace

from reconciler.reservations.book import Reservation
from state.plain import Seconds

UNUSED = 3600.0
"""Seconds without a program of its owner after which a reservation counts as unused."""
LONGEST_GAP = 300.0
"""How much of the time between two looks counts at most, in seconds."""
REST = 86400.0
"""Seconds for which a container that made us wait is told nothing, so that hanging children don't
pile up in it."""
MOST_TOLD = 100
"""Programs of one user on one reservation's GPUs that are kept as told, so that nobody can fill the
memory. A user with more is told again; others aren't affected."""


Which = tuple[int, int]
"""A program: its pid, and when it began, since pids are reused."""


@dataclass(frozen=True, order=True)
class Program:
    """A program of a user's container that has memory of a GPU."""

    user: str
    pid: int
    started: int
    """Ticks after boot."""

    @property
    def which(self) -> Which:
        """Tells the program from every other one of this boot."""
        return self.pid, self.started


@dataclass(frozen=True)
class ReservationUse:
    """What is known of the use of a reservation that is in force."""

    user: str
    """Its owner. After it was handed over, everything is counted anew."""
    unused: Seconds = 0.0
    """Seconds for which no program of theirs was on any of its GPUs."""
    intruders: Mapping[str, Seconds] = field(default_factory=dict)
    """Other users with a program on one of its GPUs, and for how many seconds."""
    told: Mapping[str, tuple[Which, ...]] = field(default_factory=dict)
    """By user, the programs that they were told of, the latest first."""


@dataclass(frozen=True)
class UseRecord:
    """What is kept from one look to the next."""

    looked: Seconds = 0.0
    """When the last look was, in seconds since the boot."""
    of: Mapping[str, ReservationUse] = field(default_factory=dict)
    """By id of the reservation."""
    resting: Mapping[str, Seconds] = field(default_factory=dict)
    """Users whose containers made us wait, and until when they are told nothing, in seconds since
    the boot."""


@dataclass(frozen=True)
class Intrusion:
    """A user to be told that new programs of theirs are on GPUs of another's reservation."""

    user: str
    reservation: Reservation
    gpus: tuple[str, ...]


@dataclass(frozen=True)
class WatchResult:
    """The record after a look, and the users to be told."""

    record: UseRecord
    intrusions: tuple[Intrusion, ...] = ()


Programs = Mapping[str, Collection[Program]]
"""The programs of residents' containers, by GPU. Nothing is known of a GPU that isn't in it."""


def judge(
    before: UseRecord, now: float, reservations: Collection[Reservation], programs: Programs | None
) -> WatchResult:
    """The result of a look. `reservations`: those in force; `now`: seconds since the boot.

    If the driver doesn't say who is on a GPU (`programs` is None, or lacks it), nobody is named or
    told because of it, and it doesn't count as unused.
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
    return WatchResult(
        UseRecord(now, found, resting),
        tuple(each for each in intrusions if each.user not in resting),
    )


def rested(record: UseRecord, users: Collection[str]) -> UseRecord:
    """The record, with a note that these users' containers made us wait just now."""
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
    """The users to tell, each with the GPUs that their new programs are on."""
    gpus = dict[str, list[str]]()
    for gpu, there in on_it.items():
        new = {p.user for p in there if p.which not in old.told.get(p.user, ())} - {old.user}
        for user in new:
            gpus.setdefault(user, []).append(gpu)
    for user, theirs in sorted(gpus.items()):
        yield Intrusion(user, reservation, tuple(theirs))
