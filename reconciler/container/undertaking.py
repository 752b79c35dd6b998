"""Work on a container's whole file system: one piece at a time, and how the last one ended.

Its user may have disconnected meanwhile. `status` says how it ended.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from reconciler.host import journal, locks, places
from state import records
from state.errors import LxcGpuError, Remedy, os_error

KILLED = "it was killed; nothing was lost, so begin again"


class AskerGoneError(BaseException):
    """The client has gone, and the result of the work would be of no use to anybody.

    Not an Exception: unreadable things are often left out, and then the work would go on.
    """


@dataclass(frozen=True)
class Undertaking:
    """One piece of work; times in seconds since the epoch."""

    what: str
    """In words, e.g. `recover from the snapshot monday`."""
    begun: float
    ended: float | None = None
    """None: it is under way."""
    failed: str = ""
    """Why nothing came of it; empty if it was done."""


@contextmanager
def undertaking(user: str, what: str) -> Iterator[None]:
    """Exclude other work on the user's file system. LxcGpuError if there is some.

    It never waits: the second user couldn't know what the first one's work leaves.
    """
    with locks.lock(locks.tree_lock(user), wait=False) as free:
        if not free:
            raise busy(user)
        this = Undertaking(what, time.time())
        _note(user, this)
        try:
            try:
                yield
            except OSError as error:
                raise os_error(error) from error
        except LxcGpuError as error:
            _note(user, replace(this, ended=time.time(), failed=error.message))
            raise
        except AskerGoneError:
            _note(user, replace(this, ended=time.time(), failed="whoever asked for it had gone"))
            raise
        except BaseException:
            _note(user, replace(this, ended=time.time(), failed="a mistake of lxc-gpu's own"))
            raise
        _note(user, replace(this, ended=time.time()))
        journal.event(
            "undertaken", user=user, what=what, seconds=round(time.time() - this.begun, 1)
        )


def busy(user: str) -> LxcGpuError:
    """The error for the second request."""
    there = last(user)
    what = f" ({there.what})" if there is not None and there.ended is None else ""
    return LxcGpuError(
        "busy",
        f"Other work on your container's files is under way{what}.",
        "Try again when it is done; `status` says when.",
        Remedy.WAIT,
    )


def last(user: str) -> Undertaking | None:
    """The last work, which may be under way; None if there was none since the server started."""
    there = records.read(places.UNDERTAKINGS / user, Undertaking)
    if there is None or there.ended is not None:
        return there
    with locks.lock(locks.tree_lock(user), wait=False) as free:
        return replace(there, ended=there.begun, failed=KILLED) if free else there


def _note(user: str, this: Undertaking) -> None:
    places.UNDERTAKINGS.mkdir(mode=0o700, parents=True, exist_ok=True)
    records.write(places.UNDERTAKINGS / user, this, 0o600)
