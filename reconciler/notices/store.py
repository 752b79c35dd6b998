"""The file of notices, /var/lib/lxc-gpu/notices.json: looks write it, the load's stream reads it.

It is changed under the lock NOTICES only. Everybody on the server may read it, because the stream
runs as `iam`; it says no more than `gpus` and the page do. Standard library only, for verbs.
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
"""Seconds after which the open notices are worked out anew, though the file is the same."""


def say(
    user: str,
    kind: NoticeKind,
    about: str,
    facts: Facts = Facts(),  # noqa: B008 # frozen
    *,
    again: float | None = None,
) -> None:
    """Have a notice mailed to the user: once for each `kind` and `about`, however often it is said.

    `again`: mail it once more so many seconds after mail was accepted, if it is still said.
    LxcGpuError if the file can't be read: unreadable is not empty.
    """
    now = time.time()
    made = Notice(os.urandom(6).hex(), user, kind, now, facts)
    _change(lambda book: book.without_old(now).say(made, about, again))


def withdraw(user: str, kind: NoticeKind, about: str) -> None:
    """Withdraw a notice: what it says is over. It can be said anew.

    LxcGpuError as of `say`.
    """
    _change(lambda book: book.withdraw(user, kind, about))


def accept(ids: Collection[str], now: float) -> None:
    """Note that a mail server accepted the mail with these ids. LxcGpuError as of `say`."""
    _change(lambda book: book.accept(ids, now))


def accepted(user: str, kind: NoticeKind, about: str) -> tuple[float, ...]:
    """When mail about it was accepted, by this server's clock, the oldest first.

    LxcGpuError as of `say`.
    """
    return read().accepted(user, kind, about)


def open_notices() -> tuple[Notice, ...]:
    """The notices that are still to be mailed. LxcGpuError as of `say`."""
    return read().open_at(time.time())


def read() -> Notebook:
    """All notices that are kept. LxcGpuError if the file can't be read."""
    try:
        text = files.read_text(places.NOTICES)
        return Notebook() if text is None else notebook.from_json(text)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise LxcGpuError(
            "notices-damaged",
            "This server's notices to its users can't be read. No mail is sent for it, and no "
            "idle container is stopped.",
            f"Sysadmin: move {places.NOTICES} away. What is still true is then mailed again.",
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
    """Reads the open notices every few seconds, the file itself only after it changed."""

    _seen: object = None
    _due: float = 0.0
    _found: tuple[Notice, ...] = ()

    def notices(self) -> tuple[Notice, ...]:
        """The open notices; none if the file can't be read, which its writers report."""
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
