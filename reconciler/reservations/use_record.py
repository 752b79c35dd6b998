"""What the looks at reserved GPUs found out: a small file of root's, which everybody may read.

It is gone with a boot: then nobody has left anything unused yet. Standard library only.
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
"""Seconds after which nobody is named by a look: one comes each minute."""


def boot_clock() -> float:
    """Seconds since the boot, those of a suspended machine included (clock_gettime(2))."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def read_record() -> UseRecord:
    """What the last look left; nothing, if it can't be read or is no such record."""
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return _record(json.loads(read_text(places.RESERVATIONS_SEEN) or "{}"))
    return UseRecord()


def write_record(record: UseRecord) -> None:
    """Keep it for the next look, the load stream and who asks."""
    text = json.dumps(asdict(record), separators=(",", ":"))
    write_file(places.RESERVATIONS_SEEN, f"{text}\n")


def changed() -> tuple[int, ...] | None:
    """Another value whenever a look wrote; None while none has."""
    try:
        found = places.RESERVATIONS_SEEN.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size


def of_now(record: UseRecord, now: float) -> Mapping[str, ReservationUse]:
    """What is known, by reservation, if the last look isn't long ago by the boot's clock. Pure."""
    return record.of if 0 <= now - record.looked <= STALE else {}


def unused_since(seen: ReservationUse | None, now: float) -> float | None:
    """Since when its owner leaves it unused, if for long; seconds since the epoch. Pure."""
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
