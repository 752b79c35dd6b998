"""The history on disk: one SQLite file, written by one thread, read by many.

New sums are added to the stored ones, so a restart within a minute or a day loses nothing. Times
are by our clock, days and weeks in UTC.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, fields
from pathlib import Path

from state.errors import LxcGpuError
from webui.monitor.past.accounting import Levels, Usage
from webui.monitor.past.belonging import Belonging

VERSION = 1
"""The version of the tables. A newer lxc-gpu may have a higher one, which this one can't write.

New columns and tables need no new version: an older lxc-gpu doesn't name them.
"""
WAIT = 5.0
"""Seconds to wait for the lock of the database."""

_LEVELS = [field.name for field in fields(Levels)]
_USAGE = [field.name for field in fields(Usage)]


_REAL = "REAL NOT NULL DEFAULT 0"


def _real(names: Iterable[str]) -> str:
    return ", ".join(f"{name} {_REAL}" for name in names)


_TABLES = f"""
CREATE TABLE minutes (server TEXT, minute INTEGER, {_real(_LEVELS)},
    PRIMARY KEY (minute, server)) WITHOUT ROWID;
CREATE TABLE use (day TEXT, server TEXT, user TEXT, {_real(_USAGE)},
    PRIMARY KEY (day, server, user)) WITHOUT ROWID;
CREATE TABLE heard (day TEXT, server TEXT, {_real(("seconds", "gpus"))},
    PRIMARY KEY (day, server)) WITHOUT ROWID;
PRAGMA user_version = {VERSION};
"""


_BELONGS = """
CREATE TABLE IF NOT EXISTS belongs (user TEXT, week TEXT, names TEXT NOT NULL,
    PRIMARY KEY (user, week)) WITHOUT ROWID
"""


def _adding(table: str, keys: list[str], values: list[str]) -> str:
    places = ", ".join("?" * (len(keys) + len(values)))
    more = ", ".join(f"{name} = {name} + excluded.{name}" for name in values)
    return (
        f"INSERT INTO {table} ({', '.join(keys + values)}) VALUES ({places})"  # noqa: S608
        f" ON CONFLICT DO UPDATE SET {more}"
    )


_ADD_MINUTES = _adding("minutes", ["server", "minute"], _LEVELS)
_ADD_USE = _adding("use", ["day", "server", "user"], _USAGE)
_ADD_BELONGS = (
    "INSERT INTO belongs VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET names = excluded.names"
)
_FORGET_BELONGS = """
DELETE FROM belongs WHERE week < :oldest AND (user NOT IN (SELECT user FROM use) OR EXISTS (
    SELECT 1 FROM belongs AS later
    WHERE later.user = belongs.user AND later.week > belongs.week AND later.week <= :oldest))
"""
_ADD_HEARD = _adding("heard", ["day", "server"], ["seconds", "gpus"])


class DamagedError(LxcGpuError):
    """The file isn't a database, or a damaged one."""


@dataclass(frozen=True)
class UseRow:
    """What one user used of one server on one day."""

    day: str
    server: str
    user: str
    usage: Usage


@dataclass(frozen=True)
class HeardRow:
    """For how long one server was heard on one day."""

    day: str
    server: str
    seconds: float
    gpus: float
    """Seconds x GPUs."""


class Store:
    """The open database. All errors are LxcGpuErrors."""

    def __init__(self, path: Path) -> None:
        """Open `path`, and create it if it is missing. DamagedError if it is damaged."""
        self._path = path
        with _in_words(path):
            self._database = sqlite3.connect(path, timeout=WAIT, check_same_thread=False)
            try:
                self._prepare()
                self._inode = _inode(path)
            except BaseException:
                self._database.close()
                raise

    @property
    def gone(self) -> bool:
        """Whether the file was moved or removed while it was open."""
        return _inode(self._path) != self._inode

    def close(self) -> None:
        """Close the database."""
        with suppress(sqlite3.Error):
            self._database.close()

    def add(
        self,
        minutes: Iterable[tuple[str, int, Levels]],
        use: Iterable[UseRow],
        heard: Iterable[HeardRow],
    ) -> None:
        """Add all of these sums in one transaction."""
        with _in_words(self._path), self._database as database:
            database.executemany(_ADD_MINUTES, ((s, m, *each.values()) for s, m, each in minutes))
            rows = ((u.day, u.server, u.user, *u.usage.values()) for u in use)
            database.executemany(_ADD_USE, rows)
            database.executemany(_ADD_HEARD, ((h.day, h.server, h.seconds, h.gpus) for h in heard))

    def belong(self, week: str, groups: Mapping[str, tuple[str, ...]]) -> None:
        """Note that each of these users is in these groups from `week` on."""
        before = self.belonging()
        changed = [
            (user, week, json.dumps(names))
            for user, names in groups.items()
            if before.of(user, week) != names
        ]
        with _in_words(self._path), self._database as database:
            database.executemany(_ADD_BELONGS, changed)

    def belonging(self) -> Belonging:
        """The users' groups, and since when."""
        since: dict[str, list[tuple[str, tuple[str, ...]]]] = {}
        for user, week, names in self._read("SELECT * FROM belongs ORDER BY user, week"):
            since.setdefault(user, []).append((week, tuple(json.loads(names))))
        return Belonging(since)

    def forget(self, before_minute: int, before_day: str, before_week: str) -> None:
        """Delete everything older, and groups that no kept use needs."""
        with _in_words(self._path), self._database as database:
            database.execute("DELETE FROM minutes WHERE minute < ?", (before_minute,))
            database.execute("DELETE FROM use WHERE day < ?", (before_day,))
            database.execute("DELETE FROM heard WHERE day < ?", (before_day,))
            database.execute(_FORGET_BELONGS, {"oldest": before_week})

    def minutes(self, first: int, last: int) -> list[tuple[str, int, Levels]]:
        """The minutes from `first` to `last`, the oldest first."""
        words = f"SELECT server, minute, {', '.join(_LEVELS)} FROM minutes"  # noqa: S608
        rows = self._read(f"{words} WHERE minute BETWEEN ? AND ? ORDER BY minute", first, last)
        return [(server, minute, Levels(*values)) for server, minute, *values in rows]

    def use(self, first_day: str, end_day: str, user: str | None = None) -> list[UseRow]:
        """Sums by server and user from `first_day` to before `end_day`; None: of all users.

        `day` of the rows is `first_day`.
        """
        sums = ", ".join(f"sum({name})" for name in _USAGE)
        words = f"SELECT server, user, {sums} FROM use WHERE day >= ? AND day < ?"  # noqa: S608
        given = [first_day, end_day]
        if user is not None:
            words, given = f"{words} AND user = ?", [*given, user]
        rows = self._read(f"{words} GROUP BY server, user", *given)
        return [UseRow(first_day, server, user, Usage(*sums)) for server, user, *sums in rows]

    def heard(self, first_day: str, end_day: str) -> list[HeardRow]:
        """Sums of what was heard, by server, from `first_day` to before `end_day`."""
        words = "SELECT server, sum(seconds), sum(gpus) FROM heard WHERE day >= ? AND day < ?"
        rows = self._read(f"{words} GROUP BY server ORDER BY server", first_day, end_day)
        return [HeardRow(first_day, *row) for row in rows]

    def days(self, last_day: str) -> list[str]:
        """The days until `last_day` on which anything was heard, the newest first."""
        rows = self._read(
            "SELECT DISTINCT day FROM heard WHERE day <= ? ORDER BY day DESC", last_day
        )
        return [day for (day,) in rows]

    def _read(self, words: str, *given: object) -> list[tuple]:  # type: ignore[type-arg]
        """Read through a separate connection, so that readers don't wait for the writer."""
        with _in_words(self._path):
            address = f"{self._path.absolute().as_uri()}?mode=ro"
            with closing(sqlite3.connect(address, timeout=WAIT, uri=True)) as database:
                return database.execute(words, given).fetchall()

    def _prepare(self) -> None:
        (version,) = self._database.execute("PRAGMA user_version").fetchone()
        if version > VERSION:
            raise LxcGpuError(
                "monitor-history-newer",
                f"{self._path} was written by a newer lxc-gpu.",
                "Install that release again, or move the file away to begin a new one.",
            )
        (found,) = self._database.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise _damaged(self._path, found)
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = NORMAL")
        if version == 0:
            self._database.executescript(f"BEGIN; {_TABLES} COMMIT;")
        found = {name for _, name, *_ in self._database.execute("PRAGMA table_info(use)")}
        for name in _USAGE:
            if name not in found:
                self._database.execute(f"ALTER TABLE use ADD COLUMN {name} {_REAL}")
        self._database.execute(_BELONGS)


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except OSError:
        return None


def put_aside(path: Path, clock: float) -> Path | None:
    """Rename a damaged database; its new name. None if that fails or was done on this day before.

    So a bad disk isn't filled with damaged databases.
    """
    stamp = time.strftime("%Y%m%d", time.gmtime(clock))
    aside = path.with_name(f"{path.name}.damaged-{stamp}")
    if aside.exists():
        return None
    try:
        path.rename(aside)
    except OSError:
        return None
    for end in ("-wal", "-shm"):
        with suppress(FileNotFoundError):
            Path(f"{path}{end}").rename(f"{aside}{end}")
    return aside


def _damaged(path: Path, details: str) -> DamagedError:
    return DamagedError(
        "monitor-history-damaged",
        f"The history can't be kept: {path} is damaged.",
        "Move it away to begin a new one. `sqlite3 FILE .recover` may save its content.",
        details=details,
    )


@contextmanager
def _in_words(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise _damaged(path, str(error)) from error
        raise LxcGpuError(
            "monitor-history-unusable",
            f"The history can't be kept: {path}: {error}.",
            f"Is the disk full? Does {path.parent} belong to lxc-gpu? The page tries each minute.",
            details=repr(error),
        ) from error
