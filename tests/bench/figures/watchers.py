"""Browsers that watch the monitor, as far as the web page can tell: `python -m ... PORT HOW_MANY`.

Each keeps /monitor/events open and reads; each second a line says how much came. No page is drawn:
a browser's own work is the browser's.
"""

from __future__ import annotations

import selectors
import socket
import sys
import time

ASK = b"GET /monitor/events HTTP/1.1\r\nHost: bench\r\nAccept: text/event-stream\r\n\r\n"


def watch(port: int, count: int) -> None:
    """Until killed. Prints events and bytes of all since the line before, and how many are open."""
    watching = selectors.DefaultSelector()
    for _ in range(count):
        connection = socket.create_connection(("127.0.0.1", port))
        connection.sendall(ASK)
        watching.register(connection, selectors.EVENT_READ)
    said, events, size, alive = time.monotonic(), 0, 0, count
    while True:
        for key, _ in watching.select(1.0):
            got = key.fileobj.recv(1 << 20)  # type: ignore[union-attr]
            events += got.count(b"\ndata:")
            size += len(got)
            if not got:
                watching.unregister(key.fileobj)
                alive -= 1
        if time.monotonic() - said >= 1:
            print(events, size, alive, flush=True)
            said, events, size = time.monotonic(), 0, 0


if __name__ == "__main__":
    watch(int(sys.argv[1]), int(sys.argv[2]))
