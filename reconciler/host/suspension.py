"""A sysadmin may have a server hold still: no round changes anything until `lxc-gpu resume`.

Host-local intent, so it stands on the server, not in the state repository. Containers can still be
started and stopped; revocations wait, too, which is why the page shows it.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass

from reconciler.host import in_words, journal, places
from state import files


@dataclass(frozen=True)
class Suspension:
    """Why, since when, and by whom a server holds still."""

    reason: str
    since: float
    """Seconds since the epoch."""
    by: str

    def words(self) -> str:
        """For a report."""
        day = in_words.moment(self.since)
        return f"{self.reason} (by {self.by}, since {day})"


def suspension() -> Suspension | None:
    """The suspension in force; None if there is none. A broken file is one without a reason."""
    text = files.read_text(places.SUSPENDED)
    if text is None:
        return None
    try:
        fields = json.loads(text)
        return Suspension(str(fields["reason"]), float(fields["since"]), str(fields["by"]))
    except (ValueError, KeyError, TypeError):
        return Suspension("reason unknown", places.SUSPENDED.stat().st_mtime, "somebody")


def suspend(reason: str, by: str) -> None:
    """Have the server hold still."""
    made = Suspension(reason, time.time(), by)
    files.write_file(places.SUSPENDED, json.dumps(asdict(made), ensure_ascii=False) + "\n")
    journal.event("suspended", by=by, reason=reason)


def resume(by: str) -> bool:
    """Let the server go on. False if it wasn't suspended."""
    if suspension() is None:
        return False
    places.SUSPENDED.unlink()
    files.keep_folder(places.SUSPENDED.parent)
    journal.event("resumed", by=by)
    return True
