"""The order in which the directory's servers are asked."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

LAST_FOR = 300.0
"""Seconds for which a failed server is asked last. After that, a save may have to wait for it again
to find out whether it is back."""


class ServerOrder:
    """The configured order, except that servers that failed lately come last. Thread-safe.

    The one that failed most recently is at the very end.
    """

    def __init__(self, servers: Sequence[str], clock: Callable[[], float] = time.monotonic) -> None:
        self._servers = tuple(servers)
        self._clock = clock
        self._failed: dict[str, float] = {}

    def now(self) -> tuple[str, ...]:
        """All servers in the order in which to ask them."""
        lately = self._clock() - LAST_FOR
        failed = self._failed.copy()
        bad = {server: then for server, then in failed.items() if then > lately}
        return tuple(sorted(self._servers, key=lambda each: (each in bad, bad.get(each, 0.0))))

    def failed(self, server: str) -> None:
        """Note that `server` gave no answer."""
        self._failed[server] = self._clock()

    def answered(self, server: str) -> None:
        """Note that `server` works."""
        self._failed.pop(server, None)
