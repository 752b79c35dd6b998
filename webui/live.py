"""Server-sent events, for so many pages at a time: each holds a thread of the web server.

A stream ends when its events do, or when its page is gone; either way its place is free again.
"""

from __future__ import annotations

from collections.abc import Iterator
from threading import BoundedSemaphore

from flask import Response

PULSE = 15.0
"""Seconds of silence after which something is sent, so that proxies keep the line open, and so
that a page that is gone is noticed."""
STILL_HERE = ": still here\n\n"
"""What is sent then: a comment, which browsers pass over."""


class Places:
    """How many pages may be live at a time."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._free = BoundedSemaphore(most)

    def stream(self, events: Iterator[str]) -> Response:
        """`events` as an answer; 503 if all places are taken, and the page does without."""
        if not self._free.acquire(blocking=False):
            return Response("Too many live pages.\n", 503, content_type="text/plain")
        response = Response(_Stream(events, self._free), content_type="text/event-stream")
        response.headers["Cache-Control"] = "no-store"
        response.headers["X-Accel-Buffering"] = "no"
        return response


class _Stream:
    """The events of one page. Closing it, at whatever moment, gives its place back once."""

    def __init__(self, events: Iterator[str], place: BoundedSemaphore) -> None:
        self._events = events
        self._place = place
        self._held = True

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        return next(self._events)

    def close(self) -> None:
        """Called by the web server when the page is gone or all is said."""
        if self._held:
            self._held = False
            self._place.release()
