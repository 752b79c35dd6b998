"""Notes on the spare systems on the containers' disk.

They are kept on the server, not on that disk. A system that isn't noted was made by another server,
or by a program that was killed, and doesn't count.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from reconciler.host import places
from state import records

_IDENT = re.compile(r"[0-9a-f]{16}", re.ASCII)


@dataclass(frozen=True)
class Stamp:
    """A template's archive at one moment. Nobody can choose a file's ctime (inode(7))."""

    inode: int
    size: int
    """Bytes."""
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Stamp:
        """The stamp of a file, by its stat(2)."""
        return cls(status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _ident(text: str) -> str:
    if not _IDENT.fullmatch(text):
        raise ValueError("not a name of a spare system")
    return text


@dataclass(frozen=True)
class Spare:
    """One unpacked system, a slot in the store."""

    ident: Annotated[str, _ident]
    """Its random name in the store, which no other server uses."""
    template: str
    stamp: Stamp
    """The archive when it was read."""
    sha256: str
    """The SHA-256 of the archive, in hex."""
    size: int
    """Bytes that it takes on the disk."""
    base: bool = False
    """Whether it stays in the store, and others are copies that share its blocks."""


@dataclass(frozen=True)
class FailedTemplate:
    """Why no spare could be made of an archive."""

    stamp: Stamp
    reason: str
    when: float
    """In seconds since the epoch."""


@dataclass(frozen=True)
class Notes:
    """All notes. A spare whose slot is gone was taken."""

    spares: tuple[Spare, ...] = ()
    failures: Mapping[str, FailedTemplate] = field(default_factory=dict)
    """By template."""


def read_notes() -> Notes:
    """The notes; empty if they are damaged: then all spares are made anew."""
    return records.read(places.SPARES, Notes) or Notes()


def write_notes(notes: Notes) -> None:
    """Replace the notes. The caller holds the lock of the spares."""
    records.write(places.SPARES, notes, 0o600)


def archive(template: str) -> Path:
    """The path of a template's archive on the server."""
    return places.TEMPLATES / f"{template}.tar.zst"


def stamp_now(template: str) -> Stamp | None:
    """The archive of a template as it is now; None if there is none."""
    try:
        return Stamp.of(archive(template).stat())
    except (FileNotFoundError, NotADirectoryError):
        return None
