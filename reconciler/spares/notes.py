"""What this server knows of the spare systems on its containers' disk.

Kept on the server, not on that disk: what isn't noted here was made by another server, or by
somebody who was killed, and is nothing.
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
    """A template's archive at one moment. Who changes a file can't choose its ctime (inode(7))."""

    inode: int
    size: int
    """Bytes."""
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Stamp:
        """Of what stat(2) says."""
        return cls(status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _ident(text: str) -> str:
    if not _IDENT.fullmatch(text):
        raise ValueError("not a name of a spare system")
    return text


@dataclass(frozen=True)
class Spare:
    """One unpacked system, a slot in the store."""

    ident: Annotated[str, _ident]
    """Its name in the store, made up here: no other server's disk has the same."""
    template: str
    stamp: Stamp
    """The archive when it was read."""
    sha256: str
    """Of all that was read of it."""
    size: int
    """Bytes that it takes on the disk."""
    base: bool = False
    """Whether it stays, and others are copies that share its blocks."""


@dataclass(frozen=True)
class FailedTemplate:
    """Why none could be made of an archive."""

    stamp: Stamp
    reason: str
    when: float
    """In seconds since the epoch."""


@dataclass(frozen=True)
class Notes:
    """All that is known. One whose slot is gone was taken."""

    spares: tuple[Spare, ...] = ()
    failures: Mapping[str, FailedTemplate] = field(default_factory=dict)
    """By template."""


def read_notes() -> Notes:
    """The notes; damaged ones are none: then all that is there is made anew."""
    return records.read(places.SPARES, Notes) or Notes()


def write_notes(notes: Notes) -> None:
    """Replace them; only who holds the lock of the spares does."""
    records.write(places.SPARES, notes, 0o600)


def archive(template: str) -> Path:
    """Where the server keeps a template."""
    return places.TEMPLATES / f"{template}.tar.zst"


def stamp_now(template: str) -> Stamp | None:
    """The archive of a template as it is now; None if there is none."""
    try:
        return Stamp.of(archive(template).stat())
    except (FileNotFoundError, NotADirectoryError):
        return None
