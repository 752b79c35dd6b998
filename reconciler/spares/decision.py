"""Which spare systems are thrown away, and which are made: pure arithmetic over what was seen."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from reconciler.spares.notes import Notes, Spare, Stamp

AGAIN = 3600.0
"""Seconds after which what failed is tried again with the same archive."""
UNPACKED = 5
"""How much larger a system of unknown size is taken to be than its archive."""


@dataclass(frozen=True)
class Situation:
    """What there is at one moment."""

    archives: Mapping[str, Stamp]
    """The templates in use whose archives are there."""
    count: int
    """How many of each are wanted ready."""
    there: frozenset[str]
    """What stands in the store, by name."""
    free: int
    """Bytes of the disk that are free beyond what is kept for everybody; may be negative."""
    shares: bool
    """Whether copies share blocks, so that one of each template stays as their base."""
    at_once: bool
    """Whether such a copy is a moment's work, whatever its size: then none is made before."""
    now: float
    """In seconds since the epoch."""


@dataclass(frozen=True)
class Todo:
    """What is to be done, in this order."""

    remove: tuple[str, ...] = ()
    """Names in the store."""
    compare: tuple[Spare, ...] = ()
    """Of archives that were touched: still right if the archive has the same digest."""
    bases: tuple[str, ...] = ()
    """Templates of which a base is unpacked."""
    make: tuple[str, ...] = ()
    """Templates of which one is made ready, as often as they are named."""
    short: tuple[str, ...] = ()
    """Templates for which there is no room."""

    def __bool__(self) -> bool:
        return bool(self.remove or self.compare or self.bases or self.make)


def whole(notes: Notes, seen: Situation) -> tuple[Spare, ...]:
    """Those that are in the store and were made of the archives as they are. Pure."""
    return tuple(
        spare
        for spare in notes.spares
        if spare.ident in seen.there and seen.archives.get(spare.template) == spare.stamp
    )


def todo(notes: Notes, seen: Situation) -> Todo:
    """What is to be done. Pure."""
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
            continue  # first it is seen whether these are still right
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
    """All go but bases, whose blocks people's systems have as well: little would come free."""
    held = [s for s in (*right, *touched) if s.base and seen.shares]
    return Todo(
        remove=tuple(sorted(seen.there - {spare.ident for spare in held})),
        compare=tuple(spare for spare in touched if spare in held),
        short=tuple(sorted(seen.archives.keys() - {spare.template for spare in held})),
    )


@dataclass(frozen=True)
class Readiness:
    """Whether somebody who takes a template now gets a system that is there."""

    template: str
    ready: bool
    why_not: str = ""
    """In words; empty: it is under way, or about to be."""


def readiness(notes: Notes, seen: Situation) -> tuple[Readiness, ...]:
    """Of each template in use. Pure."""
    right = {spare.template for spare in whole(notes, seen)}
    short = todo(notes, seen).short
    found = list[Readiness]()
    for template, stamp in seen.archives.items():
        failure = notes.failures.get(template)
        why = "there is no room for it on the disk" if template in short else ""
        if failure is not None and failure.stamp == stamp:
            why = failure.reason
        ready = template in right
        found.append(Readiness(template, ready, "" if ready else why))
    return tuple(found)


def _may_be_tried(template: str, notes: Notes, seen: Situation) -> bool:
    failure = notes.failures.get(template)
    if failure is None or failure.stamp != seen.archives[template]:
        return True
    return not 0 <= seen.now - failure.when < AGAIN


def _fits(template: str, notes: Notes, seen: Situation, base: Collection[Spare]) -> bool:
    """Whether there will be room for two more beside it: it is thrown away where there is none."""
    if base:  # a copy takes next to nothing
        return True
    known = [spare.size for spare in notes.spares if spare.template == template]
    size = max(known, default=UNPACKED * seen.archives[template].size)
    return seen.free > 3 * size
