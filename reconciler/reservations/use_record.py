"""The record of who uses reserved GPUs: a small file of root's, which everybody may read.

A boot removes it: then no GPU has been left unused yet. Standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping

from reconciler.host import places
from reconciler.reservations.watching import UNUSED, ReservationUse, UseRecord
from state import records

STALE = 600.0
"""Seconds after which a look is too old to name anybody by. One comes each minute."""


def read_record() -> UseRecord:
    """The record of the last look; an empty one if it can't be read."""
    return records.read_if_possible(places.RESERVATIONS_SEEN, UseRecord) or UseRecord()


def write_record(record: UseRecord) -> None:
    """Keep the record for the next look, the load's stream and users' questions."""
    records.write(places.RESERVATIONS_SEEN, record)


def changed() -> tuple[int, ...] | None:
    """A value that changes whenever a look writes; None while none has."""
    try:
        found = places.RESERVATIONS_SEEN.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size


def of_now(record: UseRecord, now: float) -> Mapping[str, ReservationUse]:
    """The use by reservation, if the look isn't too old; `now`: seconds since the boot. Pure."""
    return record.of if 0 <= now - record.looked <= STALE else {}


def unused_since(seen: ReservationUse | None, now: float) -> float | None:
    """Since when a reservation is unused, in seconds since the epoch; None if it isn't. Pure."""
    return None if seen is None or seen.unused < UNUSED else now - seen.unused
