"""The book: every reservation of a server's GPUs. Pure.

Times are seconds since the epoch, by the server's clock. A reservation holds from `begins` until
just before `ends`. Whatever the clock does, no two of them have the same GPU at the same time:
that is asked of their times alone, never of what time it is now.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType


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

    def holds(self, now: float) -> bool:
        """Whether it is under way."""
        return self.begins <= now < self.ends

    def meets(self, begins: float, ends: float) -> bool:
        """Whether it has a moment in common with that time."""
        return self.begins < ends and begins < self.ends


@dataclass(frozen=True)
class Book:
    """Everybody's, in the order of their beginnings; what is long past only as sums."""

    open: tuple[Reservation, ...] = ()
    """Those that weren't over when the book was last written."""
    past: tuple[Reservation, ...] = ()
    sums: Mapping[str, Mapping[str, float]] = field(default_factory=lambda: MappingProxyType({}))
    """GPU-hours that were reserved, by user and month (`2026-11`), of those that are forgotten."""
    last: int = 0
    """The number that was given last: none is given twice."""
    clock: float = 0.0
    """What time it was, as far as that can be believed (`aged`)."""

    def at(self, now: float) -> tuple[Reservation, ...]:
        """Those under way."""
        return tuple(each for each in self.open if each.holds(now))

    def ahead(self, now: float) -> tuple[Reservation, ...]:
        """Those under way, and those to come."""
        return tuple(each for each in self.open if each.ends > now)

    def of(self, user: str) -> tuple[Reservation, ...]:
        """The user's, without the past."""
        return tuple(each for each in self.open if each.user == user)
