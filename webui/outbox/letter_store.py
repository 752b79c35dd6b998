"""Letters on disk, a file each, so that none is lost and none is sent as another one.

A letter is forgotten long after its server has: until then its file says that it was sent already.
What the disk doesn't take is known in memory, so that nothing is sent twice for a full disk, and
written when there is room.
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
"""Seconds: servers drop what is older than seven days."""
_IDENT = re.compile(r"[a-z0-9][a-z0-9.-]{0,120}", re.ASCII)


class Way(StrEnum):
    """How a letter goes."""

    MAIL = "mail"
    WEBHOOK = "webhook"


class LetterStatus(StrEnum):
    """What became of a letter."""

    WAITS = "waits"
    ACCEPTED = "accepted"
    """By the mail server or the webhook; the notice's server doesn't know yet."""
    DONE = "done"
    """Accepted, and whoever said it knows; or nobody has to."""
    GIVEN_UP = "given-up"


@dataclass(frozen=True)
class Message:
    """One letter to one person, and what became of it."""

    id: str
    """Unique and for ever the same: of its server and notice, or made up; its Message-ID too."""
    way: Way
    to: str
    """A user, or a sysadmin's address; of a webhook nobody."""
    subject: str
    text: str
    made: float
    """When it came here, by our clock; so all other times."""
    server: str = ""
    notice: str = ""
    """The server's notice, if it is one; its user is `to`."""
    kind: NoticeKind = NoticeKind.OTHER
    standing: LetterStatus = LetterStatus.WAITS
    tries: int = 0
    due: float = 0.0
    accepted: float = 0.0


class Outbox:
    """All letters of the last days, in memory and below `folder`; for many threads."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._messages: dict[str, Message] | None = None
        self._unsaved: set[str] = set()
        self._lock = RLock()

    def all(self) -> tuple[Message, ...]:
        """In the order in which they came. LxcGpuError if they can't be read."""
        with self._lock:
            return tuple(self._loaded().values())

    def get(self, ident: str) -> Message | None:
        """The letter with this id."""
        with self._lock:
            return self._loaded().get(ident)

    def is_saved(self, ident: str) -> bool:
        """Whether the disk knows what is known of it."""
        with self._lock:
            return ident not in self._unsaved

    def put(self, message: Message) -> None:
        """Keep it, instead of what its id stood for. LxcGpuError if the disk doesn't take it."""
        with self._lock:
            self._loaded()[message.id] = message
            self._unsaved.add(message.id)
            self.save()

    def save(self) -> None:
        """Write what the disk didn't take. LxcGpuError if it still doesn't."""
        with self._lock:
            for ident in sorted(self._unsaved):
                text = json.dumps(asdict(self._loaded()[ident])) + "\n"
                try:
                    files.write_file(self._path(ident), text, 0o600)
                except OSError as error:
                    raise _no_disk(self._folder, error) from error
                self._unsaved.discard(ident)

    def remove(self, ident: str) -> None:
        """Forget it. LxcGpuError if that can't be."""
        with self._lock:
            try:
                self._path(ident).unlink(missing_ok=True)
            except OSError as error:
                raise _no_disk(self._folder, error) from error
            self._loaded().pop(ident, None)
            self._unsaved.discard(ident)

    def forget_old(self, now: float, asked_for: Callable[[Message], bool]) -> None:
        """Forget what is old, unless it is still `asked_for`: the clock may be wrong."""
        for message in self.all():
            if message.standing is LetterStatus.WAITS or asked_for(message):
                continue
            if _age(message, now) > REMEMBERED:
                self.remove(message.id)

    def _path(self, ident: str) -> Path:
        if not _IDENT.fullmatch(ident):
            raise ValueError(f"no letter's id: {ident!r}")
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
    """Every letter there; one that is damaged is put aside, for it may have been sent."""
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
    """What was written. ValueError, KeyError or TypeError if it is damaged."""
    said = json.loads(text)
    if not isinstance(said, dict):
        raise TypeError("no letter")
    for field in fields(Message):
        value = said[field.name]
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if field.type in ("float", "int"):
            if not number or not 0 <= value <= LATEST:
                raise ValueError(f"{field.name} is no number that can be")
        elif not isinstance(value, str):
            raise TypeError(f"{field.name} is no text")
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
        "Make room there (`df`); nothing is lost meanwhile, for servers say it again.",
        details=repr(error),
    )
