"""Looks once at reserved GPUs: lxc-gpu-reservations.service runs this each minute, as root.

If nothing is reserved now and nobody waits, it reads two files and loads almost nothing.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from reconciler.host import journal
from reconciler.reservations import book_file, use_record, waiting
from reconciler.reservations.waiting import Wait
from state.errors import LxcGpuError


def main(argv: Sequence[str]) -> int:
    """Look, keep the record, and tell users. The exit status."""
    try:
        _look(time.time())
    except (LxcGpuError, OSError) as error:
        _failed(error)
        return 1
    return 0


def _look(now: float) -> None:
    ahead, waits, before = (
        book_file.read_open(now).ahead(now),
        _waits(now),
        use_record.read_record(),
    )
    if waits or before.of or any(each.in_force(now) for each in ahead):
        from shells.units.on_reserved import look  # rarely needed

        look(ahead, waits, before, now)


def _waits(now: float) -> tuple[Wait, ...]:
    """The waits; none while their file is damaged, so that reservations still work."""
    try:
        return waiting.read().at(now).all
    except LxcGpuError as error:
        _failed(error)
        return ()


def _failed(error: LxcGpuError | OSError) -> None:
    code = error.code if isinstance(error, LxcGpuError) else "system"
    journal.event("reservations-failed", code=code, why=str(error))
