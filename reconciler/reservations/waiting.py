"""The list of users who wait for free GPUs: a file of root's.

It is changed under the global lock only. No other file has what it says, so a list that can't be
read doesn't count as empty.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, NamedTuple

from reconciler.host import places
from reconciler.host.in_words import moment
from reconciler.host.locks import GLOBAL, lock
from reconciler.notices import store as notices
from reconciler.notices.notebook import NoticeEntry
from state import files, plain, records
from state.errors import LxcGpuError
from state.plain import Seconds
from state.wire.notices import Notice, NoticeKind
from state.words import plural

MOST = 3
"""Waits that one user may have on one server."""
SOON = 3600.0
"""A GPU that is reserved for somebody else within this time doesn't count as free, in seconds."""
LONGEST = 30 * 86400.0
"""Seconds after which nobody waits any more."""
LONGEST_MODEL = 100
"""Letters."""


def _some(gpus: int) -> int:
    if gpus < 1:
        raise ValueError("nobody waits for none")
    return gpus


def _short(model: str) -> str:
    if len(model) > LONGEST_MODEL:
        raise ValueError("no model's name")
    return model


@dataclass(frozen=True)
class Wait:
    """One user waits for so many GPUs."""

    user: str
    gpus: Annotated[int, _some]
    model: Annotated[str, _short] = ""
    """Part of the model's name, in lower case; empty: any model."""
    since: Seconds = 0.0
    """Seconds since the epoch. It tells a wait from others of the same user."""


@dataclass(frozen=True)
class Waiting:
    """All waits, the longest first."""

    all: tuple[Wait, ...] = ()

    def of(self, user: str) -> tuple[Wait, ...]:
        """The waits of a user."""
        return tuple(each for each in self.all if each.user == user)

    def add(self, wait: Wait) -> Waiting:
        """Add a wait. An equal one stays as it was. LxcGpuError if the user has too many."""
        own = self.of(wait.user)
        if any((each.gpus, each.model) == (wait.gpus, wait.model) for each in own):
            return self
        if len(own) >= MOST:
            raise LxcGpuError(
                "waits-most",
                f"You have {MOST} waits on this server already, the most that are allowed.",
                "`notify` lists them, `notify --stop` ends them all.",
            )
        return Waiting((*self.all, wait))

    def without(self, *gone: Wait) -> Waiting:
        """Remove some waits."""
        return Waiting(tuple(each for each in self.all if each not in gone))

    def at(self, now: float) -> Waiting:
        """Remove waits that are too old, or of the future if the clock was set back."""
        return Waiting(tuple(each for each in self.all if abs(now - each.since) < LONGEST))


def read() -> Waiting:
    """The list of this server. LxcGpuError if it can't be read."""
    try:
        text = files.read_text(places.WAITING)
        return Waiting() if text is None else Waiting(plain.from_json(_File, text).waiting)
    except (OSError, ValueError) as error:
        raise LxcGpuError(
            "waiting-damaged",
            "The list of users who wait for free GPUs on this server can't be read, so nobody is "
            "told.",
            f"Sysadmin: move {places.WAITING} away. The list is then empty, and users have to "
            "ask again.",
            details=repr(error),
        ) from error


def write(waiting: Waiting) -> None:
    """Write the list; an empty one removes the file. The caller holds the global lock."""
    if waiting.all:
        records.write(places.WAITING, _File(waiting.all), 0o600)
    else:
        places.WAITING.unlink(missing_ok=True)


def change(do: Callable[[Waiting], Waiting], now: float) -> Waiting:
    """Change the list, and return it. LxcGpuError if it can't be read."""
    with lock(GLOBAL):
        before = read()
        after = do(before.at(now))
        if after != before:
            write(after)
    return after


def forget(user: str) -> None:
    """Remove a purged user's waits. A damaged list stays. The caller holds the global lock."""
    with suppress(LxcGpuError):
        everybody = read()
        if own := everybody.of(user):
            write(everybody.without(*own))


def untold(user: str, now: float) -> list[str]:
    """Lines about free GPUs that the user waited for, and of which no mail has told them yet.

    There are none if notices can't be read, which their writers report.
    """
    with suppress(LxcGpuError):
        return [_untold(said.notice) for said in _met(user) if said.is_open(now)]
    return []


def forget_untold(user: str) -> None:
    """Withdraw those notices: the user has read them. LxcGpuError if notices can't be read."""
    for said in _met(user):
        notices.withdraw(user, NoticeKind.GPUS_FREE, said.about)


def _met(user: str) -> list[NoticeEntry]:
    kind = NoticeKind.GPUS_FREE
    everything = notices.read().said
    return [s for s in everything if s.open and (s.notice.user, s.notice.kind) == (user, kind)]


def _untold(notice: Notice) -> str:
    gpus, model = notice.facts.gpus, f" ({notice.facts.model})" * bool(notice.facts.model)
    were = "was" if gpus == 1 else "were"
    return (
        f"You waited for GPUs: {plural(gpus, 'GPU')}{model} {were} free on {moment(notice.made)}."
    )


def in_words(wait: Wait) -> str:
    """What a wait is for. Pure."""
    model = f" whose name contains `{wait.model}`" if wait.model else ""
    return f"{plural(wait.gpus, 'GPU')}{model}"


class _File(NamedTuple):
    waiting: tuple[Wait, ...]
