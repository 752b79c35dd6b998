"""Notices in /var/lib/lxc-gpu/notices.json: said by what looks, read by the load's stream.

Changed under the lock NOTICES only. The stream runs as `iam`, so everybody on the server may read
the file; it says no more than `gpus` and the page do. Standard library only: verbs say notices.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

from reconciler.host import places
from reconciler.host.locks import NOTICES, lock
from reconciler.notices import notebook
from reconciler.notices.notebook import Notebook
from state import files
from state.errors import LxcGpuError
from state.wire.notices import Facts, Notice, NoticeKind

_LOOK_AGAIN = 60.0
"""Seconds after which what is open is counted anew, though the file is the same."""


def say(
    user: str,
    kind: NoticeKind,
    about: str,
    facts: Facts = Facts(),  # noqa: B008 # frozen
    *,
    again: float | None = None,
) -> None:
    """Have the user told: once for each `kind` and `about`, however often it is said.

    With `again`: once more so many seconds after mail of it was accepted, as long as it is said.
    LxcGpuError if the file can't be read: unreadable is not empty.
    """
    now = time.time()
    made = Notice(os.urandom(6).hex(), user, kind, now, facts)
    _change(lambda book: book.without_old(now).say(made, about, again))


def withdraw(user: str, kind: NoticeKind, about: str) -> None:
    """What was said is over: nobody is told any more, and it may be said anew.

    LxcGpuError as of `say`.
    """
    _change(lambda book: book.withdraw(user, kind, about))


def accept(ids: Collection[str], now: float) -> None:
    """A mail server accepted the mail of these, `now`. LxcGpuError as of `say`."""
    _change(lambda book: book.accept(ids, now))


def accepted(user: str, kind: NoticeKind, about: str) -> tuple[float, ...]:
    """When mail of it was accepted, by this server's clock, the oldest first.

    LxcGpuError as of `say`.
    """
    return read().accepted(user, kind, about)


def open_notices() -> tuple[Notice, ...]:
    """What people are still to be told. LxcGpuError as of `say`."""
    return read().open_at(time.time())


def read() -> Notebook:
    """All that is kept. LxcGpuError if that can't be read."""
    try:
        text = files.read_text(places.NOTICES)
        return Notebook() if text is None else notebook.from_json(text)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise LxcGpuError(
            "notices-damaged",
            "What this server has to tell its people can't be read. Nobody is told anything by "
            "mail, and no idle container is stopped.",
            f"Sysadmin: move {places.NOTICES} away. Then what is still so is told again.",
            details=repr(error),
        ) from error


def _change(change: Callable[[Notebook], Notebook]) -> None:
    with lock(NOTICES):
        before = read()
        after = change(before)
        if after is not before:
            files.write_file(places.NOTICES, notebook.to_json(after))


@dataclass
class Reader:
    """For who asks every few seconds: the file is read again when it is another one."""

    _seen: object = None
    _due: float = 0.0
    _found: tuple[Notice, ...] = ()

    def notices(self) -> tuple[Notice, ...]:
        """Those that are open; none where they can't be read, which their writers report."""
        seen = _identity()
        if seen != self._seen or time.monotonic() >= self._due:
            self._seen, self._due = seen, time.monotonic() + _LOOK_AGAIN
            try:
                self._found = open_notices()
            except LxcGpuError:
                self._found = ()
        return self._found


def _identity() -> object:
    try:
        seen = places.NOTICES.stat()
    except OSError:
        return None
    return seen.st_ino, seen.st_mtime_ns, seen.st_size
