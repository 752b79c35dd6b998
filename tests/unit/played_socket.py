"""Plays a socket that programs ask, for tests of what asks it."""

from __future__ import annotations

import socket
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path
from threading import Thread


class PlayedSocket(ABC):
    """Answers one connection after the other, in a thread."""

    def __init__(self, place: Path) -> None:
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(place))
        self._listening.listen(50)
        Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                with self._listening.accept()[0] as connection:
                    self.answer(connection)

    @abstractmethod
    def answer(self, connection: socket.socket) -> None:
        """Answer what `connection` asks."""

    def end(self) -> None:
        """Answer nothing any more."""
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
