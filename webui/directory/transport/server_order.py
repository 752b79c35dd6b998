"""In which order the servers of the directory are asked."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

LAST_FOR = 300.0
"""Seconds. A save then may wait for the bad server again, to find out whether it came back."""


class ServerOrder:
    """As configured, but those that failed lately come last, the latest of them at the very end.

    Any number of threads may use it.
    """

    def __init__(self, servers: Sequence[str], clock: Callable[[], float] = time.monotonic) -> None:
        self._servers = tuple(servers)
        self._clock = clock
        self._failed: dict[str, float] = {}

    def now(self) -> tuple[str, ...]:
        """All of them, the first to be asked first."""
        lately = self._clock() - LAST_FOR
        failed = self._failed.copy()
        bad = {server: then for server, then in failed.items() if then > lately}
        return tuple(sorted(self._servers, key=lambda each: (each in bad, bad.get(each, 0.0))))

    def failed(self, server: str) -> None:
        """It gave no answer."""
        self._failed[server] = self._clock()

    def answered(self, server: str) -> None:
        """It is well again."""
        self._failed.pop(server, None)
