"""Sums of use since the last write and since the start: in memory, limited."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from threading import Lock

from state.wire.server_load import ServerLoad
from webui.config import OTHERS
from webui.monitor.past.accounting import Levels, LoadStep, Usage, step
from webui.monitor.past.minutes import MINUTE, Minutes

MOST_USERS = 1000
"""Users of one server on one day who are counted. A server that invents names can't fill memory."""


def day_of(at: float) -> str:
    """The day in UTC, as in ISO 8601."""
    return time.strftime("%Y-%m-%d", time.gmtime(at))


@dataclass(frozen=True)
class Unwritten:
    """Sums that are to be added to the stored ones."""

    minutes: dict[tuple[str, int], Levels] = field(default_factory=dict)
    """By server and minute since the epoch."""
    use: dict[tuple[str, str, str], Usage] = field(default_factory=dict)
    """By day, server and user."""
    heard: dict[tuple[str, str], tuple[float, float]] = field(default_factory=dict)
    """By day and server: seconds, and seconds x GPUs."""

    def add(self, other: Unwritten) -> None:
        """Add all that `other` holds."""
        for minute, levels in other.minutes.items():
            self.minutes[minute] = self.minutes.get(minute, Levels()) + levels
        for place, usage in other.use.items():
            self.use[place] = self.use.get(place, Usage()) + usage
        for day, (seconds, gpus) in other.heard.items():
            before = self.heard.get(day, (0.0, 0.0))
            self.heard[day] = (before[0] + seconds, before[1] + gpus)


class Ledger:
    """Adds up all loads. Thread-safe."""

    def __init__(self, minutes: int, groups: Collection[str] = ()) -> None:
        """Plots go back by `minutes`. Use is also added up for these `groups`."""
        self._size = minutes
        self._lock = Lock()
        self._heard: dict[str, float] = {}
        self._unwritten = Unwritten()
        self._named: dict[str, tuple[str, set[str]]] = {}
        self._totals: dict[str, dict[str, Usage]] = {}
        self._groups = frozenset(groups)
        self._of_user: dict[str, tuple[str, ...]] = {}
        self._group_totals: dict[str, dict[str, Usage]] = {}
        self._minutes: dict[str, Minutes] = {}

    def note(self, server: str, load: ServerLoad, at: float) -> None:
        """Note that `load` of `server` came at the time `at`, by our clock."""
        with self._lock:
            before = self._heard.get(server)
            self._heard[server] = at
            if before is not None and at < before - self._size * MINUTE:
                self._minutes.pop(server, None)  # our clock was wrong, and the plot in the future
            taken = None if before is None else step(before, at, load)
            if taken is not None:
                self._count(server, taken, at)

    def take(self) -> Unwritten:
        """The sums since the last call. They are the caller's to write."""
        with self._lock:
            taken, self._unwritten = self._unwritten, Unwritten()
            return taken

    def give_back(self, unwritten: Unwritten, oldest_minute: int) -> None:
        """Take back sums that couldn't be written, except minutes before `oldest_minute`."""
        with self._lock:
            late, self._unwritten = self._unwritten, unwritten
            unwritten.add(late)
            for key in [key for key in unwritten.minutes if key[1] < oldest_minute]:
                del unwritten.minutes[key]

    def remember(self, server: str, minute: int, levels: Levels) -> None:
        """Take over one minute from the disk, for plots."""
        with self._lock:
            self._ring(server).add(minute, levels)

    def rings(self) -> Mapping[str, Minutes]:
        """The minutes of each server that was ever heard."""
        with self._lock:
            return dict(self._minutes)

    def totals(self) -> Mapping[str, Mapping[str, Usage]]:
        """What was used since the start, by server and user."""
        with self._lock:
            return {server: dict(users) for server, users in self._totals.items()}

    def belong(self, groups: Mapping[str, tuple[str, ...]]) -> None:
        """From now on, count each of these users for these groups."""
        with self._lock:
            for user, names in groups.items():
                self._of_user[user] = tuple(name for name in names if name in self._groups)

    def group_totals(self) -> Mapping[str, Mapping[str, Usage]]:
        """What was used by server and group, since the start or since groups were known."""
        with self._lock:
            return {server: dict(groups) for server, groups in self._group_totals.items()}

    def _count(self, server: str, taken: LoadStep, at: float) -> None:
        day, minute = day_of(at), int(at // MINUTE)
        self._ring(server).add(minute, taken.levels)
        self._unwritten.add(
            Unwritten(
                {(server, minute): taken.levels},
                {(day, server, user): usage for user, usage in self._few(server, day, taken)},
                {(day, server): (taken.levels.seconds, taken.gpus)},
            )
        )

    def _few(self, server: str, day: str, taken: LoadStep) -> list[tuple[str, Usage]]:
        """The users who are counted: the first `MOST_USERS` of the day."""
        if self._named.get(server, ("", set()))[0] != day:
            self._named[server] = (day, set())
        names = self._named[server][1]
        totals = self._totals.setdefault(server, {})
        found = []
        for user, usage in taken.users.items():
            if user in names or len(names) < MOST_USERS:
                names.add(user)
                found.append((user, usage))
                self._count_groups(server, user, usage)
            if user in totals or len(totals) < MOST_USERS:
                totals[user] = totals.get(user, Usage()) + usage
        return found

    def _count_groups(self, server: str, user: str, usage: Usage) -> None:
        """Count `usage` for the groups of `user`, once any user's groups are known."""
        if not self._groups or not self._of_user:
            return
        totals = self._group_totals.setdefault(server, {})
        for group in self._of_user.get(user) or (OTHERS,):
            totals[group] = totals.get(group, Usage()) + usage

    def _ring(self, server: str) -> Minutes:
        return self._minutes.setdefault(server, Minutes(self._size))
