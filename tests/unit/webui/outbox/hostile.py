"""Servers on the loopback that keep to no protocol."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress


@contextmanager
def listening(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """A port at which `answer` has each connection."""
    with socket.create_server(("localhost", 0)) as server:

        def accept() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

        def serve(connection: socket.socket) -> None:
            with connection, suppress(OSError):
                answer(connection)

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)


def for_ever(connection: socket.socket, chunk: bytes, pause: float = 0) -> None:
    """Say the same until the other side has gone."""
    waiting = threading.Event()
    while True:
        connection.sendall(chunk)
        waiting.wait(pause)
