"""Says whether the wall clock can be believed: it has run evenly with the boot's clock for a while.

A clock that is moved by mistake could otherwise end people's programs at once. So each minute the
wall clock is compared with one that nobody sets (clock_gettime(2)).
"""

from __future__ import annotations

import time
from typing import NamedTuple

from reconciler.host import places
from reconciler.host.boot import boot_clock
from state import records

MOVED = 60.0
"""Smaller changes of the clock, in seconds, are ignored."""
SETTLED = 600.0
"""Seconds for which the clock isn't believed after it was moved."""


def is_steady() -> bool:
    """Whether this look agrees with an earlier one of this boot, and the clock wasn't moved lately.

    False for the first look after a boot. OSError if the look can't be kept for the next one.
    """
    now, before = boot_clock(), _before()
    ahead = time.time() - now
    if before is not None and abs(ahead - before.ahead) < MOVED:
        return now - before.since >= SETTLED
    since = now - SETTLED if before is None else now
    records.write(places.CLOCK_SEEN, _ClockRecord(ahead, since))
    return False


class _ClockRecord(NamedTuple):
    ahead: float
    since: float


def _before() -> _ClockRecord | None:
    return records.read_if_possible(places.CLOCK_SEEN, _ClockRecord)
