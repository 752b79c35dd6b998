"""What each server does now, and which are silent: in memory, for many threads."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from threading import Condition

from state.errors import LxcGpuError
from state.wire.server_load import ServerLoad


@dataclass(frozen=True)
class LastHeard:
    """One server, as its `load` stream shows it."""

    server: str
    load: ServerLoad | None = None
    """The newest, however old; None if there never was one."""
    heard: float | None = None
    """When that came, by our clock."""
    silent_since: float | None = None
    """Since when nothing comes; None while it does."""
    why: str = ""
    """Silent: what is wrong, in words."""
    hint: str = ""
    version: int = 0
    """Of the whole, when this changed last."""


class Latest:
    """The newest of every server; readers wait for what is newer than what they have seen."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._seen: dict[str, LastHeard] = {}
        self._version = 0
        self._changed = Condition()

    def post(self, server: str, load: ServerLoad) -> None:
        """`server` said `load` now."""
        self._put(LastHeard(server, load, self._clock()))

    def silent(self, server: str, error: LxcGpuError) -> None:
        """Nothing comes from `server` any more, and why. Since when is kept until it speaks."""
        with self._changed:
            before = self._seen.get(server, LastHeard(server))
            since = before.silent_since or before.heard or self._clock()
            self._put(replace(before, silent_since=since, why=error.message, hint=error.hint))

    def keep_only(self, servers: Collection[str]) -> None:
        """Forget those that are no longer part of the fleet."""
        with self._changed:
            gone = self._seen.keys() - set(servers)
            for server in gone:
                del self._seen[server]
            if gone:
                self._version += 1
                self._changed.notify_all()

    def all(self) -> Mapping[str, LastHeard]:
        """Every server that was asked, by name."""
        with self._changed:
            return dict(self._seen)

    def wait(self, version: int, seconds: float) -> tuple[int, Mapping[str, LastHeard]]:
        """All, as soon as anything is newer than `version`, or after `seconds` as it is."""
        with self._changed:
            self._changed.wait_for(lambda: self._version > version, seconds)
            return self._version, dict(self._seen)

    def _put(self, seen: LastHeard) -> None:
        with self._changed:
            self._version += 1
            self._seen[seen.server] = replace(seen, version=self._version)
            self._changed.notify_all()
