"""Letters on disk, one file each, so that none is lost or sent twice.

A letter's file is kept until long after its server has forgotten the notice: it says that the
letter was sent. If the disk is full, that is kept in memory and written when there is room.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields, replace
from enum import StrEnum
from pathlib import Path
from threading import RLock

from state import files
from state.errors import LxcGpuError
from state.wire.messages import LATEST
from state.wire.notices import NoticeKind

REMEMBERED = 9 * 86400.0
"""Seconds. Servers forget notices after seven days."""
_IDENT = re.compile(r"[a-z0-9][a-z0-9.-]{0,120}", re.ASCII)


class Way(StrEnum):
    """How a letter is sent."""

    MAIL = "mail"
    WEBHOOK = "webhook"


class LetterStatus(StrEnum):
    """What became of a letter."""

    WAITS = "waits"
    ACCEPTED = "accepted"
    """By the mail server or the webhook. The server that gave the notice wasn't told yet."""
    DONE = "done"
    """Accepted, and its server was told, if there is one."""
    GIVEN_UP = "given-up"


@dataclass(frozen=True)
class Message:
    """One letter to one person, and what became of it."""

    id: str
    """Unique and permanent: from its server and notice, or random. The Message-ID is made of it."""
    way: Way
    to: str
    """A user, or a sysadmin's address; empty for the webhook."""
    subject: str
    text: str
    made: float
    """When it was written. All times here are by our clock."""
    server: str = ""
    notice: str = ""
    """The id of the server's notice; empty for an alert."""
    kind: NoticeKind = NoticeKind.OTHER
    standing: LetterStatus = LetterStatus.WAITS
    tries: int = 0
    due: float = 0.0
    accepted: float = 0.0


class Outbox:
    """All letters of the last days, in memory and in `folder`. Thread-safe."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._messages: dict[str, Message] | None = None
        self._unsaved: set[str] = set()
        self._lock = RLock()

    def all(self) -> tuple[Message, ...]:
        """All letters, the oldest first. LxcGpuError if they can't be read."""
        with self._lock:
            return tuple(self._loaded().values())

    def get(self, ident: str) -> Message | None:
        """The letter with this id, if there is one."""
        with self._lock:
            return self._loaded().get(ident)

    def is_saved(self, ident: str) -> bool:
        """Whether the newest version of this letter is on disk."""
        with self._lock:
            return ident not in self._unsaved

    def put(self, message: Message) -> None:
        """Keep `message`, replacing one with the same id. LxcGpuError if the disk refuses it."""
        with self._lock:
            self._loaded()[message.id] = message
            self._unsaved.add(message.id)
            self.save()

    def save(self) -> None:
        """Write the letters that the disk refused before. LxcGpuError if it still does."""
        with self._lock:
            for ident in sorted(self._unsaved):
                text = json.dumps(asdict(self._loaded()[ident])) + "\n"
                try:
                    files.write_file(self._path(ident), text, 0o600)
                except OSError as error:
                    raise _no_disk(self._folder, error) from error
                self._unsaved.discard(ident)

    def remove(self, ident: str) -> None:
        """Delete the letter with this id. LxcGpuError if that fails."""
        with self._lock:
            try:
                self._path(ident).unlink(missing_ok=True)
            except OSError as error:
                raise _no_disk(self._folder, error) from error
            self._loaded().pop(ident, None)
            self._unsaved.discard(ident)

    def forget_old(self, now: float, asked_for: Callable[[Message], bool]) -> None:
        """Delete old letters, except those `asked_for`. (The clock may be wrong.)"""
        for message in self.all():
            if message.standing is LetterStatus.WAITS or asked_for(message):
                continue
            if _age(message, now) > REMEMBERED:
                self.remove(message.id)

    def _path(self, ident: str) -> Path:
        if not _IDENT.fullmatch(ident):
            raise ValueError(f"not the id of a letter: {ident!r}")
        return self._folder / f"{ident}.json"

    def _loaded(self) -> dict[str, Message]:
        if self._messages is None:
            try:
                self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                read = sorted(_read(self._folder), key=lambda m: (m.made, m.id))
            except OSError as error:
                raise _no_disk(self._folder, error) from error
            self._messages = {message.id: message for message in read}
        return self._messages


def _read(folder: Path) -> Iterator[Message]:
    """Every letter there. A damaged one is renamed and not read, since it may have been sent."""
    for leftover in folder.glob(".*.new"):
        leftover.unlink(missing_ok=True)
    for path in folder.glob("*.json"):
        try:
            message = from_json(path.read_text("utf-8"))
            if message.id != path.stem:
                raise ValueError("another letter's file")
        except (ValueError, KeyError, TypeError, RecursionError):
            path.rename(path.with_suffix(".damaged"))
            continue
        yield message


def from_json(text: str) -> Message:
    """The letter in a file's text. ValueError, KeyError or TypeError if it is damaged."""
    said = json.loads(text)
    if not isinstance(said, dict):
        raise TypeError("not a letter")
    for field in fields(Message):
        value = said[field.name]
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if field.type in ("float", "int"):
            if not number or not 0 <= value <= LATEST:
                raise ValueError(f"{field.name} isn't a possible number")
        elif not isinstance(value, str):
            raise TypeError(f"{field.name} isn't a text")
    message = Message(**said)
    return replace(
        message,
        way=Way(message.way),
        kind=NoticeKind(message.kind),
        standing=LetterStatus(message.standing),
    )


def _age(message: Message, now: float) -> float:
    return abs(now - max(message.made, message.accepted))


def _no_disk(folder: Path, error: OSError) -> LxcGpuError:
    return LxcGpuError(
        "outbox-disk",
        f"Letters can't be kept in {folder}: {error.strerror or error}.",
        "Make room there (`df`). Nothing is lost meanwhile: servers repeat what they report.",
        details=repr(error),
    )
