"""The newest load of each server, and which servers are silent: in memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from threading import Condition

from state.errors import LxcGpuError
from state.wire.server_load import ServerLoad


@dataclass(frozen=True)
class LastHeard:
    """What was last heard of one server."""

    server: str
    load: ServerLoad | None = None
    """The newest load, however old; None if there was none."""
    heard: float | None = None
    """When it came, by our clock."""
    silent_since: float | None = None
    """Since when no load comes; None while they come."""
    why: str = ""
    """Why the server is silent, in words."""
    hint: str = ""
    version: int = 0
    """The version of `Latest` in which this changed last."""


class Latest:
    """What was last heard of each server. Thread-safe. Readers can wait for something newer."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._seen: dict[str, LastHeard] = {}
        self._version = 0
        self._changed = Condition()

    def post(self, server: str, load: ServerLoad) -> None:
        """Note that `load` of `server` came now."""
        self._put(LastHeard(server, load, self._clock()))

    def silent(self, server: str, error: LxcGpuError) -> None:
        """Note that `server` is silent, and why. The time is kept until it is heard again."""
        with self._changed:
            before = self._seen.get(server, LastHeard(server))
            since = before.silent_since or before.heard or self._clock()
            self._put(replace(before, silent_since=since, why=error.message, hint=error.hint))

    def keep_only(self, servers: Collection[str]) -> None:
        """Forget all servers except these."""
        with self._changed:
            gone = self._seen.keys() - set(servers)
            for server in gone:
                del self._seen[server]
            if gone:
                self._version += 1
                self._changed.notify_all()

    def all(self) -> Mapping[str, LastHeard]:
        """What was last heard of each server, by name."""
        with self._changed:
            return dict(self._seen)

    def wait(self, version: int, seconds: float) -> tuple[int, Mapping[str, LastHeard]]:
        """Like `all`, as soon as something is newer than `version`, or after `seconds`."""
        with self._changed:
            self._changed.wait_for(lambda: self._version > version, seconds)
            return self._version, dict(self._seen)

    def _put(self, seen: LastHeard) -> None:
        with self._changed:
            self._version += 1
            self._seen[seen.server] = replace(seen, version=self._version)
            self._changed.notify_all()
