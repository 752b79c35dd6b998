"""The state as the page shows it: read from the page's own clone, fetched in the background.

No page ever waits for Git's remote side longer than a moment; while it can't be reached, pages
show what was known last and say so.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event, Lock
from typing import TypeVar

from state.edits.edit import Edit
from state.errors import LxcGpuError, Remedy
from state.git.commits import Author, Commit, Committed
from state.git.healing import healing
from state.git.history import Entry, count, entries, missing
from state.git.plumbing import GitError
from state.git.publish import Base, Proposal, Result, publish_all
from state.git.repository import Repository
from state.model.documents import State
from webui import background, events
from webui.clone.together import Together
from webui.events import Code

log = logging.getLogger(__name__)
T = TypeVar("T")

PATIENCE = 0.4
"""Seconds that a page waits for a fetch under way, so that it mostly shows the newest."""

FRESH = 0.3
"""Seconds: what was read longer ago than this is fetched again for who needs the newest."""

PATIENCE_FOR_FRESH = 2.0
"""Seconds that such a request waits for the fetch."""

PATIENCE_AT_START = 20.0
"""The same, while nothing is known at all."""


@dataclass(frozen=True)
class Reading:
    """The state at one revision, and how sure it is that there is no newer one."""

    revision: str
    state: State
    at: float
    """When the repository last answered that this is its newest revision."""
    problem: str = ""
    """Why it did not answer since; empty if it did."""


class Source:
    """One clone, for many threads."""

    def __init__(
        self,
        url: str,
        clone: Path,
        signing_key: Path,
        fetch_seconds: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._url = url
        self._clone = clone
        self._signing_key = signing_key
        self._fetch_seconds = fetch_seconds
        self._clock = clock
        self._reading: Reading | None = None
        self._began = 0.0
        self._tried = 0.0
        self._lock = Lock()  # for the three fields above and the next one; held for moments
        self._fetched: Event | None = None
        self._remote = Lock()  # one conversation with the remote side at a time
        self._missing: tuple[str, dict[str, frozenset[str] | None]] = ("", {})  # of one tip
        self._doubt: GitError | None = None
        """Why the past could not be read, until the clone is looked through."""
        self._together = Together(self._publish_all)

    def current(self) -> Reading:
        """What is known now. LxcGpuError only if nothing ever was."""
        return self._after(self._fetch_if_older(self._fetch_seconds), PATIENCE)

    def newest(self) -> Reading:
        """The newest, if the repository answers in time: for who has just changed something."""
        asked, oldest = self._clock(), min(FRESH, self._fetch_seconds)
        reading = self._after(self._fetch_if_older(oldest), PATIENCE_FOR_FRESH)
        if self._began < asked - oldest:  # that fetch was under way before what was changed
            reading = self._after(self._fetch_if_older(0), PATIENCE_FOR_FRESH)
        return reading

    def _after(self, under_way: Event | None, patience: float) -> Reading:
        if under_way is not None:
            under_way.wait(PATIENCE_AT_START if self._reading is None else patience)
        reading = self._reading
        if reading is None:
            raise LxcGpuError(
                "state-unreadable",
                "The state repository can't be read at the moment.",
                "Servers and containers go on working. Try again in a minute.",
                Remedy.WAIT,
            )
        return reading

    def publish(self, edit: Edit, author: Author) -> Committed:
        """Commit and push what `edit` makes of the newest state."""
        return self._together.publish(Proposal(edit, author))

    def _publish_all(self, proposals: Sequence[Proposal]) -> Sequence[Result]:
        with self._remote:
            known = self._reading
            base = Base(known.revision, known.state) if known is not None else None
            results = self._healing(
                lambda: publish_all(self._repository(), proposals, self._signing_key, base)
            )
            for result in results:
                if isinstance(result, Committed):
                    self._reading = Reading(result.revision, result.state, self._clock())
        return results

    def history(self, *paths: str, limit: int = 20) -> tuple[Commit, ...]:
        """The latest commits that changed one of the files `paths`; the newest first."""
        return self._past(lambda clone: clone.history(*paths, limit=limit), ())

    def entries(self, *, skip: int, limit: int) -> tuple[Entry, ...]:
        """`limit` commits with all that they say, after the newest `skip`."""
        return self._past(lambda clone: entries(clone, skip=skip, limit=limit), ())

    def commits(self) -> int:
        """How many commits the history has."""
        return self._past(count, 0)

    def _past(self, read: Callable[[Repository], T], otherwise: T) -> T:
        try:
            return read(Repository(self._clone))
        except LxcGpuError as error:
            events.warning(log, Code.HISTORY_FAILED, code=error.code, details=error.details)
            if isinstance(error, GitError):
                self._doubt = error
            return otherwise

    def missing(self, revision: str) -> frozenset[str] | None:
        """The commits that whoever is at `revision` doesn't have; None if it is unknown here."""
        tip = self.current().revision
        if revision == tip:
            return frozenset()
        if self._missing[0] != tip:
            self._missing = (tip, {})
        known = self._missing[1]
        if revision not in known:
            try:
                known[revision] = missing(Repository(self._clone), revision)
            except LxcGpuError:
                return None
        return known[revision]

    def behind(self, revision: str) -> int | None:
        """By how many commits `revision` is behind the newest; None if it is unknown here."""
        found = self.missing(revision)
        return None if found is None else len(found)

    def includes(self, revision: str, wanted: str) -> bool:
        """Whether `revision` is `wanted` or comes after it; a revision unknown here may not."""
        if revision == wanted:
            return True
        try:
            return Repository(self._clone).is_ancestor(wanted, revision)
        except LxcGpuError:
            return False

    def _fetch_if_older(self, seconds: float) -> Event | None:
        """The fetch under way, begun now if the last is `seconds` ago; None if it isn't."""
        with self._lock:
            if self._fetched is not None:
                return self._fetched
            if self._clock() - self._tried < seconds:
                return None
            self._began = self._clock()
            self._fetched = Event()
            under_way = self._fetched
        try:
            background.start("fetch", lambda: self._fetch(under_way))
        except LxcGpuError as error:
            self._fail(error.message, error.details)
            self._fetch_is_over(under_way)
        return under_way

    def _fetch(self, done: Event) -> None:
        try:
            with self._remote:
                self._healing(self._read_newest)
        except LxcGpuError as error:
            self._fail(error.message, error.details)
        except Exception as error:
            events.crashed(log, "fetch")
            self._fail("The state repository could not be read.", repr(error))
        finally:
            self._fetch_is_over(done)

    def _read_newest(self) -> None:
        repository = self._repository()
        if self._reading is None:
            with suppress(LxcGpuError):  # what was fetched last, if anything was
                self._read(repository, "It was not asked yet.")
        doubt, self._doubt = self._doubt, None
        if doubt is not None and not repository.whole():
            raise doubt
        repository.fetch()
        self._read(repository, "")

    def _healing(self, work: Callable[[], T]) -> T:
        """What `work` comes to; a damaged clone is made again for it."""
        return healing(self._url, self._clone, work, tell=_tell_damage)

    def _fetch_is_over(self, done: Event) -> None:
        with self._lock:
            self._tried = self._clock()
            self._fetched = None
        done.set()

    def _fail(self, message: str, details: str) -> None:
        events.warning(log, Code.FETCH_FAILED, message=message, details=details)
        if self._reading is not None:
            self._reading = replace(self._reading, problem=message)

    def _read(self, repository: Repository, problem: str) -> None:
        tip = repository.tip()
        known = self._reading
        same = known is not None and known.revision == tip
        state = known.state if known is not None and same else repository.read(tip)
        self._reading = Reading(tip, state, self._clock(), problem)

    def _repository(self) -> Repository:
        if self._clone.exists():
            return Repository(self._clone)
        return Repository.clone(self._url, self._clone)


def _tell_damage(damage: GitError | OSError) -> None:
    details = damage.message if isinstance(damage, GitError) else repr(damage)
    events.warning(log, Code.CLONE_DAMAGED, details=details)
