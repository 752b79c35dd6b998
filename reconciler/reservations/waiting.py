"""Who waits for free GPUs: one file of root's beside the book, changed under the lock ACCOUNTS.

Nothing else knows it, so a list that can't be read is not an empty one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from reconciler.host import places
from reconciler.host.in_words import moment
from reconciler.host.locks import ACCOUNTS, lock
from reconciler.notices import store as notices
from reconciler.notices.notebook import NoticeEntry
from state import files
from state.errors import LxcGpuError
from state.wire.notices import Notice, NoticeKind

MOST = 3
"""Things that one user may wait for on one server."""
SOON = 3600.0
"""Seconds: a GPU that is somebody else's so soon is not free for who waits."""
LONGEST = 30 * 86400.0
"""Seconds after which nobody waits any more."""


@dataclass(frozen=True)
class Wait:
    """Somebody waits for so many GPUs."""

    user: str
    gpus: int
    model: str = ""
    """Part of the model's name, in small letters; empty: any."""
    since: float = 0.0
    """Seconds since the epoch; what tells it from others of the same user."""


@dataclass(frozen=True)
class Waiting:
    """Everybody who waits, the longest first."""

    all: tuple[Wait, ...] = ()

    def of(self, user: str) -> tuple[Wait, ...]:
        """What the user waits for."""
        return tuple(each for each in self.all if each.user == user)

    def add(self, wait: Wait) -> Waiting:
        """These and one more; the same once more stays what it was. LxcGpuError for too many."""
        own = self.of(wait.user)
        if any((each.gpus, each.model) == (wait.gpus, wait.model) for each in own):
            return self
        if len(own) >= MOST:
            raise LxcGpuError(
                "waits-most",
                f"You wait for {MOST} things on this server already, as many as may be.",
                "`notify` lists them, `notify --stop` ends them all.",
            )
        return Waiting((*self.all, wait))

    def without(self, *gone: Wait) -> Waiting:
        """These without some."""
        return Waiting(tuple(each for each in self.all if each not in gone))

    def at(self, now: float) -> Waiting:
        """These without those who waited too long, whatever the clock did meanwhile."""
        return Waiting(tuple(each for each in self.all if abs(now - each.since) < LONGEST))


def read() -> Waiting:
    """What is kept on this server. LxcGpuError if that can't be read."""
    try:
        text = files.read_text(places.WAITING)
        return Waiting() if text is None else from_json(text)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise LxcGpuError(
            "waiting-damaged",
            "The list of who waits for free GPUs on this server can't be read, so nobody is told.",
            f"Sysadmin: move {places.WAITING} away; then nobody waits, and people ask again.",
            details=repr(error),
        ) from error


def write(waiting: Waiting) -> None:
    """Keep these instead; no file where nobody waits. The lock ACCOUNTS is held."""
    if waiting.all:
        files.write_file(places.WAITING, to_json(waiting), 0o600)
    else:
        places.WAITING.unlink(missing_ok=True)


def change(do: Callable[[Waiting], Waiting], now: float) -> Waiting:
    """What everybody waits for after a change. LxcGpuError if the list can't be read."""
    with lock(ACCOUNTS):
        before = read()
        after = do(before.at(now))
        if after != before:
            write(after)
    return after


def forget(user: str) -> None:
    """Nothing is left of a user who is purged; a damaged list stays. The lock ACCOUNTS is held."""
    with suppress(LxcGpuError):
        everybody = read()
        if own := everybody.of(user):
            write(everybody.without(*own))


def untold(user: str, now: float) -> list[str]:
    """What the user waited for and no mail told them yet, in lines; perhaps there is no mail.

    None where notices can't be read, which their writers report.
    """
    with suppress(LxcGpuError):
        return [_untold(said.notice) for said in _met(user) if said.is_open(now)]
    return []


def forget_untold(user: str) -> None:
    """The user has read it. LxcGpuError if notices can't be read."""
    for said in _met(user):
        notices.withdraw(user, NoticeKind.GPUS_FREE, said.about)


def _met(user: str) -> list[NoticeEntry]:
    kind = NoticeKind.GPUS_FREE
    everything = notices.read().said
    return [s for s in everything if s.open and (s.notice.user, s.notice.kind) == (user, kind)]


def _untold(notice: Notice) -> str:
    gpus, model = notice.facts.gpus, f" ({notice.facts.model})" * bool(notice.facts.model)
    what, were = ("1 GPU", "was") if gpus == 1 else (f"{gpus} GPUs", "were")
    return f"You waited for GPUs: {what}{model} {were} free on {moment(notice.made)}."


def in_words(wait: Wait) -> str:
    """What somebody waits for. Pure."""
    model = f" whose name has `{wait.model}` in it" if wait.model else ""
    return f"{wait.gpus} GPU{'s' * (wait.gpus != 1)}{model}"


def to_json(waiting: Waiting) -> str:
    """As text, a line for each."""
    lines = ",\n".join(f"  {json.dumps(asdict(each))}" for each in waiting.all)
    return f'{{"waiting": [\n{lines}\n]}}\n'


def from_json(text: str) -> Waiting:
    """What `to_json` wrote. ValueError, KeyError, TypeError or AttributeError if it is damaged."""
    return Waiting(tuple(_wait(fields) for fields in json.loads(text)["waiting"]))


def _wait(fields: Mapping[str, Any]) -> Wait:
    made = Wait(**fields)
    words = isinstance(made.user, str) and isinstance(made.model, str) and len(made.model) <= 100
    numbers = type(made.gpus) is int and made.gpus > 0 and type(made.since) in (int, float)
    if not (words and numbers and made.since >= 0):
        raise ValueError("nobody waits like that")
    return made
