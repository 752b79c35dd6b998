"""The state that pages show, from the page's own clone, which is fetched in the background.

No page waits longer than a moment for the remote repository. While it can't be reached, pages show
the last known state and say so.
"""

from __future__ import annotations

import logging
import time
from collections import deque
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
from state.git.history import HistoryEntry, count, entries, missing
from state.git.news import news
from state.git.plumbing import GitError
from state.git.publish import Base, Proposal, Result, publish_all
from state.git.repository import Repository
from state.model.documents import State
from webui import background, events
from webui.clone.batching import Batcher
from webui.events import Code

log = logging.getLogger(__name__)
T = TypeVar("T")

PATIENCE = 0.4
"""Seconds that a page waits for a running fetch, so that it usually shows the newest state."""

FRESH = 0.3
"""Seconds after which a request for the newest state fetches again."""

PATIENCE_FOR_FRESH = 2.0
"""Seconds that such a request waits for the fetch."""

RECENT = 20
"""Revisions from which on a nudge brings along what is new; who is at an older one fetches."""

PATIENCE_AT_START = 20.0
"""Seconds that a page waits for a fetch while no state is known."""


@dataclass(frozen=True)
class StateReading:
    """The state at one revision, and whether there may be a newer one."""

    revision: str
    state: State
    at: float
    """When the repository last said that this is its newest revision."""
    problem: str = ""
    """Why it hasn't answered since then; empty if it has."""


class StateSource:
    """Reads and changes the state through one clone. Thread-safe."""

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
        self._reading: StateReading | None = None
        self._began = 0.0
        self._tried = 0.0
        self._lock = Lock()  # for the three fields above and the next one; held for moments
        self._fetched: Event | None = None
        self._remote = Lock()  # one conversation with the remote side at a time
        self._missing: tuple[str, dict[str, frozenset[str] | None]] = ("", {})  # of one tip
        self._recent = deque[str](maxlen=RECENT)
        self._packed: tuple[str, dict[str, bytes | None]] = ("", {})  # up to one tip
        self._packing = Lock()
        self._doubt: GitError | None = None
        """Why the history couldn't be read, until the clone is checked for damage."""
        self._batcher = Batcher(self._publish_all)

    def current(self) -> StateReading:
        """The state as it is known now. LxcGpuError if none is known."""
        return self._after(self._fetch_if_older(self._fetch_seconds), PATIENCE)

    def newest(self) -> StateReading:
        """The newest state, if the repository answers in time. For people who just changed it."""
        asked, oldest = self._clock(), min(FRESH, self._fetch_seconds)
        reading = self._after(self._fetch_if_older(oldest), PATIENCE_FOR_FRESH)
        if self._began < asked - oldest:  # that fetch began before the change
            reading = self._after(self._fetch_if_older(0), PATIENCE_FOR_FRESH)
        return reading

    def _after(self, under_way: Event | None, patience: float) -> StateReading:
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
        """Apply `edit` to the newest state, commit the result and push it."""
        return self._batcher.publish(Proposal(edit, author))

    def _publish_all(self, proposals: Sequence[Proposal]) -> Sequence[Result]:
        with self._remote:
            known = self._reading
            base = Base(known.revision, known.state) if known is not None else None
            results = self._healing(
                lambda: publish_all(self._repository(), proposals, self._signing_key, base)
            )
            for result in results:
                if isinstance(result, Committed):
                    self._know(StateReading(result.revision, result.state, self._clock()))
        return results

    def _know(self, reading: StateReading) -> None:
        self._reading = reading
        if reading.revision not in self._recent:
            self._recent.append(reading.revision)

    def news(self, revision: str) -> bytes | None:
        """What a server at `revision` lacks of the state known here, for its nudge.

        None if it had better fetch: there is nothing, too much, or the revision isn't a recent one.
        Made once for all servers at the same revision.
        """
        reading = self._reading
        if reading is None or revision == reading.revision or revision not in self._recent:
            return None
        with self._packing:
            if self._packed[0] != reading.revision:
                self._packed = (reading.revision, {})
            known = self._packed[1]
            if revision not in known:
                known[revision] = news(Repository(self._clone).git, revision, reading.revision)
            return known[revision]

    def history(self, *paths: str, limit: int = 20) -> tuple[Commit, ...]:
        """The latest commits that changed one of the files `paths`, the newest first."""
        return self._past(lambda clone: clone.history(*paths, limit=limit), ())

    def entries(self, *, skip: int, limit: int) -> tuple[HistoryEntry, ...]:
        """`limit` commits with their details, after the newest `skip`."""
        return self._past(lambda clone: entries(clone, skip=skip, limit=limit), ())

    def commits(self) -> int:
        """The number of commits in the history."""
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
        """The commits that `revision` lacks; None if it is unknown here."""
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
        """The number of commits that `revision` lacks; None if it is unknown here."""
        found = self.missing(revision)
        return None if found is None else len(found)

    def includes(self, revision: str, wanted: str) -> bool:
        """Whether `revision` is `wanted` or a later one; False if it is unknown here."""
        if revision == wanted:
            return True
        try:
            return Repository(self._clone).is_ancestor(wanted, revision)
        except LxcGpuError:
            return False

    def _fetch_if_older(self, seconds: float) -> Event | None:
        """The running fetch, or a new one if the last is `seconds` old; None if it isn't."""
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
            self._fail("The state repository can't be read.", repr(error))
        finally:
            self._fetch_is_over(done)

    def _read_newest(self) -> None:
        repository = self._repository()
        if self._reading is None:
            with suppress(LxcGpuError):  # the last fetch's, if there was one
                self._read(repository, "It was not asked yet.")
        doubt, self._doubt = self._doubt, None
        if doubt is not None and not repository.whole():
            raise doubt
        self._read(repository, "", repository.fetch())

    def _healing(self, work: Callable[[], T]) -> T:
        """The result of `work`. A damaged clone is replaced first."""
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

    def _read(self, repository: Repository, problem: str, tip: str | None = None) -> None:
        tip = tip or repository.tip()
        known = self._reading
        same = known is not None and known.revision == tip
        state = known.state if known is not None and same else repository.read(tip)
        self._know(StateReading(tip, state, self._clock(), problem))

    def _repository(self) -> Repository:
        if self._clone.exists():
            return Repository(self._clone)
        return Repository.clone(self._url, self._clone)


def _tell_damage(damage: GitError | OSError) -> None:
    details = damage.message if isinstance(damage, GitError) else repr(damage)
    events.warning(log, Code.CLONE_DAMAGED, details=details)
