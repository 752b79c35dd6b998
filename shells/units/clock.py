"""Whether the wall clock is to be believed: it has stood beside the boot's clock for a while.

A clock that is moved, by whoever or whatever, would else end what people's programs are at, in a
moment: a look at it, each minute, compares it with one that nobody sets (clock_gettime(2)).
"""

from __future__ import annotations

import time
from typing import NamedTuple

from reconciler.host import places
from state import records

MOVED = 60.0
"""Seconds: what a clock is set by in less, bit by bit, is no concern."""
SETTLED = 600.0
"""Seconds since it was seen to be moved."""


def stands() -> bool:
    """Whether this look agrees with an earlier one of this boot, and no move is recent.

    The first one of a boot agrees with none. OSError if nothing can be kept for the next one.
    """
    now, before = time.clock_gettime(time.CLOCK_BOOTTIME), _before()
    ahead = time.time() - now
    if before is not None and abs(ahead - before.ahead) < MOVED:
        return now - before.since >= SETTLED
    since = now - SETTLED if before is None else now
    records.write(places.CLOCK_SEEN, _Seen(ahead, since))
    return False


class _Seen(NamedTuple):
    ahead: float
    since: float


def _before() -> _Seen | None:
    return records.read(places.CLOCK_SEEN, _Seen)
