"""The record of who uses reserved GPUs: a small file of root's, which everybody may read.

A boot removes it: then no GPU has been left unused yet. Standard library only.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from reconciler.host import places
from reconciler.reservations.watching import UNUSED, ReservationUse, UseRecord, Which
from state.files import read_text, write_file

STALE = 600.0
"""Seconds after which a look is too old to name anybody by. One comes each minute."""


def boot_clock() -> float:
    """Seconds since the boot, including time in which the machine slept (clock_gettime(2))."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def read_record() -> UseRecord:
    """The record of the last look; an empty one if it can't be read."""
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return _record(json.loads(read_text(places.RESERVATIONS_SEEN) or "{}"))
    return UseRecord()


def write_record(record: UseRecord) -> None:
    """Keep the record for the next look, the load's stream and users' questions."""
    text = json.dumps(asdict(record), separators=(",", ":"))
    write_file(places.RESERVATIONS_SEEN, f"{text}\n")


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


def _record(fields: Mapping[str, Any]) -> UseRecord:
    return UseRecord(
        _seconds(fields["looked"]),
        {str(name): _seen(each) for name, each in fields["of"].items()},
        {str(user): _seconds(until) for user, until in fields["resting"].items()},
    )


def _seen(fields: Mapping[str, Any]) -> ReservationUse:
    return ReservationUse(
        str(fields["user"]),
        _seconds(fields["unused"]),
        {str(user): _seconds(length) for user, length in fields["intruders"].items()},
        {str(user): tuple(map(_which, theirs)) for user, theirs in fields["told"].items()},
    )


def _which(pair: Any) -> Which:
    pid, started = pair
    return int(pid), int(started)


def _seconds(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError("not a number")
    if not math.isfinite(value) or value < 0:
        raise ValueError("not a length of time")
    return float(value)
