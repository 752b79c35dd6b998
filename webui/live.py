"""Server-sent events, for so many pages at a time: each holds a thread of the web server.

A stream ends when its events do, or when its page is gone; either way its place is free again. Who
has many pages can't keep others out: a newcomer gets the place of the oldest page of the address
that has most, unless that would only turn the tables.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from threading import Lock

from flask import Response

PULSE = 15.0
"""Seconds of silence after which something is sent, so that proxies keep the line open, and so
that a page that is gone is noticed."""
STILL_HERE = ": still here\n\n"
"""What is sent then: a comment, which browsers pass over."""
LEAVING = 16
"""Pages that lost their place and hold a thread still, until they next have something to say. With
so many, newcomers wait: threads are no more than that."""


class LiveStreams:
    """How many pages may be live at a time."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._lock = Lock()
        self._held: list[_Stream] = []
        """The oldest first."""
        self._leaving: set[_Stream] = set()

    def stream(self, events: Iterator[str], address: str) -> Response:
        """`events` as an answer to `address`; 503 without a place, and the page does without."""
        stream = _Stream(events, self, address)
        if not self._enter(stream):
            return Response("Too many live pages.\n", 503, content_type="text/plain")
        response = Response(stream, content_type="text/event-stream")
        response.headers["Cache-Control"] = "no-store"
        response.headers["X-Accel-Buffering"] = "no"
        return response

    def _enter(self, stream: _Stream) -> bool:
        with self._lock:
            if len(self._held) >= self.most and not self._make_room(stream.address):
                return False
            self._held.append(stream)
            return True

    def _make_room(self, address: str) -> bool:
        """End the oldest page of the address that has most, if it has most afterwards, too."""
        pages = Counter(held.address for held in self._held)
        crowd, most = pages.most_common(1)[0]
        if most <= pages[address] + 1 or len(self._leaving) >= LEAVING:
            return False
        oldest = next(held for held in self._held if held.address == crowd)
        self._held.remove(oldest)
        self._leaving.add(oldest)
        return True

    def has(self, stream: _Stream) -> bool:
        """Whether this page still has its place."""
        return stream not in self._leaving

    def leave(self, stream: _Stream) -> None:
        """Its thread is free again."""
        with self._lock:
            self._leaving.discard(stream)
            if stream in self._held:
                self._held.remove(stream)


class _Stream:
    """The events of one page. Closing it, at whatever moment, gives its place back."""

    def __init__(self, events: Iterator[str], streams: LiveStreams, address: str) -> None:
        self.address = address
        self._events = events
        self._streams = streams

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        event = next(self._events)
        if not self._streams.has(self):
            raise StopIteration
        return event

    def close(self) -> None:
        """Called by the web server when the page is gone or all is said."""
        self._streams.leave(self)
