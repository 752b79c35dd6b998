"""Decides which spare systems are thrown away and which are made. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from reconciler.spares.notes import Notes, Spare, Stamp

AGAIN = 3600.0
"""Seconds after which a failed template is tried again with the same archive."""
UNPACKED = 5
"""How many times larger than its archive a system of unknown size is assumed to be."""


@dataclass(frozen=True)
class Situation:
    """What there is at one moment."""

    archives: Mapping[str, Stamp]
    """The templates in use whose archives are there."""
    count: int
    """How many spares of each template are wanted."""
    there: frozenset[str]
    """The names in the store."""
    free: int
    """Bytes of the disk that are free beyond the reserve; may be negative."""
    shares: bool
    """Whether copies share blocks, so that one of each template stays as their base."""
    at_once: bool
    """Whether such a copy takes a moment, whatever its size: then none is made in advance."""
    now: float
    """In seconds since the epoch."""


@dataclass(frozen=True)
class Todo:
    """The work to be done, in this order."""

    remove: tuple[str, ...] = ()
    """Names in the store that are removed."""
    compare: tuple[Spare, ...] = ()
    """Spares whose archive was touched: they stay if its digest is the same."""
    bases: tuple[str, ...] = ()
    """Templates of which a base is unpacked."""
    make: tuple[str, ...] = ()
    """Templates of which a spare is made, once for each time they are named."""
    short: tuple[str, ...] = ()
    """Templates for which there is no space."""

    def __bool__(self) -> bool:
        return bool(self.remove or self.compare or self.bases or self.make)


def whole(notes: Notes, seen: Situation) -> tuple[Spare, ...]:
    """The spares that are in the store and were made of the archives as they are now. Pure."""
    return tuple(
        spare
        for spare in notes.spares
        if spare.ident in seen.there and seen.archives.get(spare.template) == spare.stamp
    )


def todo(notes: Notes, seen: Situation) -> Todo:
    """The work to be done. Pure."""
    present = [spare for spare in notes.spares if spare.ident in seen.there]
    if not seen.count:
        return Todo(remove=tuple(sorted(seen.there)))
    right = whole(notes, seen)
    touched = tuple(s for s in present if s.template in seen.archives and s not in right)
    if any(seen.free < spare.size for spare in present):
        return _without_room(seen, right, touched)
    wanted = 0 if seen.at_once else seen.count
    kept, bases, make, short = list[Spare](), list[str](), list[str](), list[str]()
    for template in sorted(seen.archives):
        if any(spare.template == template for spare in touched):
            continue  # these are compared first
        base = [s for s in right if s.template == template and s.base][: 1 if seen.shares else 0]
        ready = [s for s in right if s.template == template and not s.base][:wanted]
        kept += base + ready
        missing = wanted - len(ready)
        if not _may_be_tried(template, notes, seen) or (base and not missing):
            continue
        if not missing and not (seen.shares and not base):
            continue
        if _fits(template, notes, seen, base):
            bases += [template] if seen.shares and not base else []
            make += [template] * missing
        else:
            short.append(template)
    unwanted = seen.there - {spare.ident for spare in (*kept, *touched)}
    return Todo(tuple(sorted(unwanted)), touched, tuple(bases), tuple(make), tuple(short))


def _without_room(seen: Situation, right: tuple[Spare, ...], touched: tuple[Spare, ...]) -> Todo:
    """Remove all but bases, whose blocks people's systems share: they would free little."""
    held = [s for s in (*right, *touched) if s.base and seen.shares]
    return Todo(
        remove=tuple(sorted(seen.there - {spare.ident for spare in held})),
        compare=tuple(spare for spare in touched if spare in held),
        short=tuple(sorted(seen.archives.keys() - {spare.template for spare in held})),
    )


@dataclass(frozen=True)
class Readiness:
    """How many systems from a template are ready."""

    template: str
    ready: int
    """A base counts, too: the next registration gets a copy of it."""
    wanted: int
    why_not: str = ""
    """Why none is, in words; empty: one is being made, or about to be."""

    def words(self) -> str:
        """E.g. `1 of 2 ready for the next registrations`."""
        return f"{self.ready} of {self.wanted} ready for the next registrations"


def readiness(notes: Notes, seen: Situation) -> tuple[Readiness, ...]:
    """The readiness of each template in use. Pure."""
    right = whole(notes, seen)
    short = todo(notes, seen).short
    found = list[Readiness]()
    for template, stamp in seen.archives.items():
        failure = notes.failures.get(template)
        why = "the disk has no space for it" if template in short else ""
        if failure is not None and failure.stamp == stamp:
            why = failure.reason
        bases = [spare.base for spare in right if spare.template == template]
        from_base = seen.count if seen.at_once else 1
        ready = max(bases.count(False), from_base if any(bases) else 0)
        found.append(Readiness(template, ready, seen.count, "" if ready else why))
    return tuple(found)


def _may_be_tried(template: str, notes: Notes, seen: Situation) -> bool:
    failure = notes.failures.get(template)
    if failure is None or failure.stamp != seen.archives[template]:
        return True
    return not 0 <= seen.now - failure.when < AGAIN


def _fits(template: str, notes: Notes, seen: Situation, base: Collection[Spare]) -> bool:
    """Whether there is space for two more besides it: without space, it would be thrown away."""
    if base:  # a copy takes next to no space
        return True
    known = [spare.size for spare in notes.spares if spare.template == template]
    size = max(known, default=UNPACKED * seen.archives[template].size)
    return seen.free > 3 * size
