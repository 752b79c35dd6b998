"""Server-sent events for a limited number of pages. Each page occupies a thread of the web server.

A stream ends when its events end or its page is closed; then its place is free. Somebody with many
pages can't keep others out: a newcomer gets the place of the oldest page of the address with the
most pages, unless the newcomer's address would then have the most.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from threading import Lock

from flask import Response

PULSE = 15.0
"""Seconds of silence after which a comment is sent. It keeps proxies from closing the connection,
and shows whether the page is still open."""
STILL_HERE = ": still here\n\n"
"""That comment, which browsers ignore."""
LEAVING = 16
"""Pages, at most, that have lost their place and still hold a thread, until their next event. With
more of them, newcomers get no place: there are no threads left."""


class LiveStreams:
    """The streams of at most `most` pages. Thread-safe."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._lock = Lock()
        self._held: list[_Stream] = []
        """In the order in which they began."""
        self._leaving: set[_Stream] = set()

    def stream(self, events: Iterator[str], address: str) -> Response:
        """The response that sends `events` to `address`, or status 503 if there is no place."""
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
        """End the oldest stream of the address with the most, if it then still has the most."""
        pages = Counter(held.address for held in self._held)
        crowd, most = pages.most_common(1)[0]
        if most <= pages[address] + 1 or len(self._leaving) >= LEAVING:
            return False
        oldest = next(held for held in self._held if held.address == crowd)
        self._held.remove(oldest)
        self._leaving.add(oldest)
        return True

    def has(self, stream: _Stream) -> bool:
        """Whether this stream still has its place."""
        return stream not in self._leaving

    def leave(self, stream: _Stream) -> None:
        """Free the place of `stream`."""
        with self._lock:
            self._leaving.discard(stream)
            if stream in self._held:
                self._held.remove(stream)


class _Stream:
    """The events of one page. `close` frees its place."""

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
        """Called by the web server when the page is closed or the events have ended."""
        self._streams.leave(self)
