"""Suspends a server: no round changes anything until `lxc-gpu resume`.

It concerns one server, so it is noted there and not in the state repository. Containers can still
be started and stopped. Revocations wait, too, so the page shows that a server is suspended.
"""

from __future__ import annotations

import time
from typing import NamedTuple

from reconciler.host import in_words, journal, places
from state import files, records


class Suspension(NamedTuple):
    """Why, since when, and by whom a server is suspended."""

    reason: str
    since: float
    """Seconds since the epoch."""
    by: str

    def words(self) -> str:
        """The suspension in words, for a report."""
        day = in_words.moment(self.since)
        return f"{self.reason} (by {self.by}, since {day})"


def suspension() -> Suspension | None:
    """The suspension in force; None if there is none. A damaged file counts as one without a
    reason."""
    found = records.read(places.SUSPENDED, Suspension)
    if found is None and places.SUSPENDED.exists():
        return Suspension("reason unknown", places.SUSPENDED.stat().st_mtime, "somebody")
    return found


def suspend(reason: str, by: str) -> None:
    """Suspend the server."""
    records.write(places.SUSPENDED, Suspension(reason, time.time(), by))
    journal.event("suspended", by=by, reason=reason)


def resume(by: str) -> bool:
    """End the suspension. False if there was none."""
    if suspension() is None:
        return False
    places.SUSPENDED.unlink()
    files.sync_folder(places.SUSPENDED.parent)
    journal.event("resumed", by=by)
    return True
