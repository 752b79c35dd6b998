"""The history of use: plots of the last days, and by week who used how much.

Loads are added up in memory and written each minute. If the disk fails, pages still work: plots
come from memory, and `problem` says why the rest is missing.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import date, timedelta
from pathlib import Path
from threading import Event, Lock, Thread
from typing import TypeVar, cast

from state.errors import LxcGpuError
from state.wire.server_load import ServerLoad
from webui import events
from webui.background import every
from webui.events import Code
from webui.monitor.past import weeks as by_week
from webui.monitor.past.accounting import Levels, Usage
from webui.monitor.past.belonging import Belonging
from webui.monitor.past.ledger import Ledger, Unwritten, day_of
from webui.monitor.past.minutes import MINUTE, Minutes
from webui.monitor.past.records import Heard, Point, Used
from webui.monitor.past.store import DamagedError, HeardRow, Store, UseRow, put_aside

log = logging.getLogger(__name__)

DAY = 86_400
SETTLED = 3600.0
"""Seconds after the start before old data is deleted. Until then, the clock may be wrong."""
MOST_CACHED = 200
PATIENCE = 30.0
"""Seconds that `stop` waits for the disk."""

T = TypeVar("T")


class History:
    """Adds loads up, keeps the sums, and answers pages. Thread-safe."""

    def __init__(
        self,
        path: Path,
        keep_plots_days: int = 2,
        keep_use_days: int = 730,
        groups: Collection[str] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._path = path
        self._plot_minutes = keep_plots_days * DAY // MINUTE
        self._use_days = keep_use_days
        self._clock = clock
        self._ledger = Ledger(self._plot_minutes, groups)
        self._store: Store | None = None
        self._loaded = False
        self._damage: DamagedError | None = None
        """Damage that a reader found. The writer renames the file."""
        self._writing = Lock()
        self._belonging: Mapping[str, tuple[str, ...]] | None = None
        """Groups of users that aren't written yet."""
        self._cached: dict[Hashable, object] = {}
        self._stop = Event()
        self._thread: Thread | None = None
        self._began = 0.0
        self._forgot: float | None = None
        """When `watch` began, and when old things were deleted last; monotonic."""
        self.problem: LxcGpuError | None = None
        """Why the history can't be written or read; None if it can."""

    def note(self, server: str, load: ServerLoad, at: float) -> None:
        """Note that `load` of `server` came at the time `at`, by our clock."""
        self._ledger.note(server, load, at)

    def totals(self) -> Mapping[str, Mapping[str, Usage]]:
        """What was used since the start, by server and user."""
        return self._ledger.totals()

    def group_totals(self) -> Mapping[str, Mapping[str, Usage]]:
        """What was used since the start, by server and configured group."""
        return self._ledger.group_totals()

    def belong(self, groups: Mapping[str, tuple[str, ...]]) -> None:
        """Note the present groups of these users. Those of other users stay as they were."""
        self._ledger.belong(groups)
        with self._writing:
            self._belonging = {**(self._belonging or {}), **groups}

    def belonging(self) -> Belonging:
        """Which users were in which groups; at most a minute old."""
        return self._read("belonging", lambda s: s.belonging(), Belonging())

    def points(self, server: str, since: float, step: float) -> tuple[Point, ...]:
        """The points of `server`: one for each `step` that begins after `since`, until now.

        `step` is in seconds and stands for whole minutes. So an hour has 60 points of 60 s, a day
        144 of 600 s. The last step isn't over yet.
        """
        return self.all_points(since, step).get(server) or _points(None, *self._span(since, step))

    def all_points(self, since: float, step: float) -> Mapping[str, tuple[Point, ...]]:
        """Like `points`, for every server that was ever heard; at most a minute old."""
        span = self._span(since, step)
        key = ("points", int(self._clock() // MINUTE), *span)
        return self._once(
            key, lambda: {name: _points(ring, *span) for name, ring in self._ledger.rings().items()}
        )

    def weeks(self) -> tuple[str, ...]:
        """The weeks of which anything is known, the newest first, without future ones."""
        today = day_of(self._clock())
        return self._read(
            "weeks", lambda s: tuple(dict.fromkeys(map(by_week.week_of, s.days(today)))), ()
        )

    def used(self, week: str) -> tuple[Used, ...]:
        """What was used in `week` (2026-W47), by server and user; at most a minute old."""
        return self._read(("used", week), lambda s: by_week.used(s, week), ())

    def lines(self, weeks: Iterable[str]) -> Iterator[tuple[Used, ...]]:
        """Like `used`, for each of `weeks`; only one of them is in memory at a time.

        LxcGpuError if one can't be read.
        """
        store = self._store
        if store is None:
            return
        for week in weeks:
            with self._telling():
                lines = by_week.used(store, week)
            yield lines

    def heard(self, week: str) -> tuple[Heard, ...]:
        """For how much of `week` each server was heard."""
        return self._read(("heard", week), lambda s: by_week.heard(s, week), ())

    def used_by(self, user: str, weeks: int = 4) -> tuple[Used, ...]:
        """What `user` used in the newest `weeks` known weeks, the newest first."""

        def look(store: Store) -> tuple[Used, ...]:
            latest = self.weeks()[:weeks]
            return tuple(each for week in latest for each in by_week.used(store, week, user))

        return self._read(("by", user, weeks), look, ())

    def watch(self) -> None:
        """Read the file, and write each minute, in the background, until `stop`."""
        self._began = time.monotonic()
        self._thread = every(MINUTE, "history", self._each_minute, self._stop, at_end=self._end)

    def stop(self) -> None:
        """Write the rest, and end `watch`."""
        self._stop.set()
        if self._thread is None:
            self._end()
        else:
            self._thread.join(PATIENCE)

    def flush(self) -> None:
        """Write now. An error becomes `problem`, and the data is kept for the next time."""
        with self._writing:
            unwritten = self._ledger.take()
            written = False
            try:
                self._write(unwritten)
                written, self.problem = True, None
            except LxcGpuError as error:
                self._trouble(error)
            finally:
                if not written:
                    oldest = int(self._clock() // MINUTE) - self._plot_minutes
                    self._ledger.give_back(unwritten, oldest)
                self._cached.clear()

    def _write(self, unwritten: Unwritten) -> None:
        try:
            if self._damage is not None:
                raise self._damage
            self._add(unwritten)
        except DamagedError as error:
            self._damage = None
            if self._store is not None:
                self._store.close()
                self._store = None
            aside = put_aside(self._path, self._clock())
            if aside is None:
                raise
            said = {"path": self._path, "aside": aside, "details": error.details}
            events.warning(log, Code.USE_DAMAGED, **said)
            self._add(unwritten)

    def _add(self, unwritten: Unwritten) -> None:
        store = self._opened()
        if self._belonging is not None:
            store.belong(self._week(), self._belonging)
            self._belonging = None
        store.add(*_rows(unwritten))

    def _week(self) -> str:
        return by_week.week_of(day_of(self._clock()))

    def _opened(self) -> Store:
        if self._store is not None and self._store.gone:
            self._store.close()
            self._store = None
        if self._store is None:
            store = Store(self._path)
            if not self._loaded:
                now = int(self._clock() // MINUTE)
                with ExitStack() as unless_read:
                    unless_read.callback(store.close)
                    minutes = store.minutes(now - self._plot_minutes, now)
                    belonging, week = store.belonging(), self._week()
                    unless_read.pop_all()
                for each in minutes:
                    self._ledger.remember(*each)
                kept = {user: belonging.of(user, week) or () for user in belonging.since}
                self._ledger.belong({**kept, **(self._belonging or {})})
                self._loaded = True
            self._store = store
        return self._store

    def _each_minute(self) -> None:
        self.flush()
        now = time.monotonic()
        if now - self._began > SETTLED and (self._forgot is None or now - self._forgot > DAY):
            self._forget()
            self._forgot = now

    def _end(self) -> None:
        self.flush()
        if self._store is not None:
            self._store.close()

    def _forget(self) -> None:
        """Delete data that is older than configured, by whole weeks."""
        if self._store is None:
            return
        now = self._clock()
        oldest = date.fromisoformat(day_of(now - self._use_days * DAY))
        monday = oldest - timedelta(days=oldest.weekday())
        with self._writing:
            try:
                minute, first = int(now // MINUTE) - self._plot_minutes, monday.isoformat()
                self._store.forget(minute, first, by_week.week_of(first))
            except LxcGpuError as error:
                self._trouble(error)

    def _trouble(self, error: LxcGpuError) -> None:
        before, self.problem = self.problem, error
        if before is None or before.code != error.code:
            said = {"code": error.code, "details": error.details or error.message}
            events.warning(log, Code.USE_FAILED, **said)

    def _span(self, since: float, step: float) -> tuple[int, int, int]:
        """The first minute, the minutes of a point, and the number of points."""
        minutes = max(1, round(step / MINUTE))
        last = int(self._clock() // (minutes * MINUTE))
        first = max(int(since // (minutes * MINUTE)) + 1, last - self._plot_minutes + 1)
        return first * minutes, minutes, max(0, last - first + 1)

    def _read(self, key: Hashable, look: Callable[[Store], T], nothing: T) -> T:
        store = self._store
        if store is None:
            return nothing
        try:
            with self._telling():
                return self._once(key, lambda: look(store))
        except LxcGpuError:
            return nothing

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """Note an error as `problem`, and raise it."""
        try:
            yield
        except LxcGpuError as error:
            if isinstance(error, DamagedError):
                self._damage = error
            self._trouble(error)
            raise

    def _once(self, key: Hashable, look: Callable[[], T]) -> T:
        """The result of `look`, cached until the next `flush`."""
        cached = self._cached.get(key)
        if cached is not None:
            return cast(T, cached)
        found = look()
        if len(self._cached) >= MOST_CACHED:
            self._cached.clear()
        self._cached[key] = found
        return found


def _points(ring: Minutes | None, first: int, minutes: int, count: int) -> tuple[Point, ...]:
    starts = range(first, first + count * minutes, minutes)
    if ring is None:
        return tuple(Point(float(start * MINUTE)) for start in starts)
    return tuple(ring.point(start, minutes) for start in starts)


def _rows(
    unwritten: Unwritten,
) -> tuple[list[tuple[str, int, Levels]], list[UseRow], list[HeardRow]]:
    return (
        [(server, minute, levels) for (server, minute), levels in unwritten.minutes.items()],
        [UseRow(*place, usage) for place, usage in unwritten.use.items()],
        [HeardRow(*place, *sums) for place, sums in unwritten.heard.items()],
    )
