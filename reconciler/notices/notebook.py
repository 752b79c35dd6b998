"""All notices of this server, open and accepted. Pure. Standard library only."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import NamedTuple

from state import plain
from state.wire.messages import Moment
from state.wire.notices import MOST_TOLD, Notice, NoticeKind

DAY = 86400.0
KEPT = 7 * DAY
"""Seconds after which an open notice is dropped, and one that isn't said any more forgotten."""
MOST, MOST_OF_USER = 2000, 40
"""Notices that are kept, in all and of one user. Beyond that, the one said longest ago is dropped.
"""
MOST_ACCEPTED = 10
"""Moments of acceptance that are kept of one notice."""


@dataclass(frozen=True)
class NoticeEntry:
    """One notice, when it was last said, and when it was accepted."""

    notice: Notice
    about: str
    """Tells it from others of its kind: a reservation's id, a start of a container."""
    last: Moment
    """When it was last said. Saying it again sends no second mail."""
    accepted: tuple[Moment, ...] = ()
    """When mail about it was accepted. A notice that is opened again has a new id."""
    open: bool = True

    def is_open(self, now: float) -> bool:
        """Whether mail about it is still to be sent."""
        return self.open and abs(now - self.notice.made) < KEPT


@dataclass(frozen=True)
class Notebook:
    """All notices, in the order in which they were first said."""

    said: tuple[NoticeEntry, ...] = ()

    def find(self, user: str, kind: NoticeKind, about: str) -> NoticeEntry | None:
        """The entry for this kind and `about`; None if it was never said."""
        wanted = (user, kind, about)
        return next((s for s in self.said if _key(s) == wanted), None)

    def say(self, notice: Notice, about: str, again: float | None = None) -> Notebook:
        """Add a notice, which was made now. If it was said before, its old entry stays.

        `again`: open it once more so many seconds after it was accepted. A notice that stayed open
        for all of `KEPT` and is still said is opened as a new one.
        """
        now = notice.made
        before = self.find(notice.user, notice.kind, about)
        if before is None:
            return self._with(NoticeEntry(notice, about, now))
        due = again is not None and not before.open and now - before.accepted[-1] >= again
        if due or (before.open and not before.is_open(now)):
            return self._with(replace(before, notice=notice, last=now, open=True))
        noted = abs(now - before.last) < DAY
        return self if noted else self._with(replace(before, last=now))

    def withdraw(self, user: str, kind: NoticeKind, about: str) -> Notebook:
        """Remove a notice: what it says is over. It can be said anew."""
        gone = (user, kind, about)
        return self._if_other(tuple(s for s in self.said if _key(s) != gone))

    def accept(self, ids: Collection[str], now: float) -> Notebook:
        """Note that mail about the notices with these ids was accepted."""
        return self._if_other(
            tuple(
                replace(s, open=False, accepted=(*s.accepted, now)[-MOST_ACCEPTED:])
                if s.open and s.notice.id in ids
                else s
                for s in self.said
            )
        )

    def accepted(self, user: str, kind: NoticeKind, about: str) -> tuple[float, ...]:
        """When mail about it was accepted, the oldest first."""
        found = self.find(user, kind, about)
        return found.accepted if found else ()

    def open_at(self, now: float, most: int = MOST_TOLD) -> tuple[Notice, ...]:
        """The open notices: the newest of each user first, then the second newest, and so on.

        So the many notices of one user, or of one without an address, don't crowd out others.
        """
        of_user: dict[str, list[Notice]] = defaultdict(list)
        for said in reversed(self.said):
            if said.is_open(now):
                of_user[said.notice.user].append(said.notice)
        in_turn = (n for row in zip_longest(*of_user.values()) for n in row if n is not None)
        return tuple(n for n, _ in zip(in_turn, range(most), strict=False))

    def without_old(self, now: float) -> Notebook:
        """Remove the notices that nobody says any more."""
        return self._if_other(tuple(s for s in self.said if abs(now - s.last) < KEPT))

    def _with(self, said: NoticeEntry) -> Notebook:
        """Add one; the ones said longest ago make room."""
        others = [s for s in self.said if _key(s) != _key(said)]
        own = [s for s in others if s.notice.user == said.notice.user]
        for some, most in ((own, MOST_OF_USER), (others, MOST)):
            for old in sorted(some, key=lambda s: s.last)[: max(0, len(some) - most + 1)]:
                others.remove(old)
        return Notebook((*others, said))

    def _if_other(self, said: tuple[NoticeEntry, ...]) -> Notebook:
        return self if said == self.said else Notebook(said)


def _key(said: NoticeEntry) -> tuple[str, NoticeKind, str]:
    return said.notice.user, said.notice.kind, said.about


class _File(NamedTuple):
    notices: tuple[NoticeEntry, ...]


def to_json(notebook: Notebook) -> str:
    """The notebook as text."""
    return plain.to_json(_File(notebook.said))


def from_json(text: str) -> Notebook:
    """What `to_json` wrote. ValueError if it is damaged."""
    said = plain.from_json(_File, text, newer=True).notices
    if len({_key(each) for each in said}) < len(said):
        raise ValueError("said twice")
    if not all(each.open or each.accepted for each in said):
        raise ValueError("neither open nor accepted")
    return Notebook(said)
