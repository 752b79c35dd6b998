"""What a server has to tell its people: kinds and short facts, from which the page makes sentences.

No text of the server's gets into a letter: who takes a server over can say that a GPU is free, and
nothing that a person would take for a sysadmin's word. Whatever is made here is checked, also what
comes from another machine.
Standard library only: verbs and units say these.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from state.wire.messages import LATEST

MOST_TOLD = 200
"""Notices that a load carries at most."""
_IDENT = re.compile(r"[0-9a-f]{12}", re.ASCII)
_LONGEST = 128
"""Letters of a word."""


class NoticeKind(StrEnum):
    """What somebody may be told by a server."""

    GPUS_FREE = "gpus-free"
    """GPUs that they wait for are free: `gpus`, `model`."""
    RESERVATION_BEGINS = "reservation-begins"
    """`gpus`, `at`, `until`, `reservation`."""
    RESERVATION_ENDS = "reservation-ends"
    """`gpus`, `until`, `reservation`."""
    RESERVATION_UNUSED = "reservation-unused"
    """`gpus`, `at` (since when nothing runs on them), `until`, `reservation`."""
    ON_YOUR_GPU = "on-your-gpu"
    """A program of `other` runs on a GPU that they reserved: `gpus`, `until`, `reservation`."""
    IDLE = "idle"
    """Their container runs unused: `at` (since when)."""
    WILL_STOP = "will-stop"
    """It will be stopped for that: `at` (since when it is unused), `until` (when)."""
    STOPPED = "stopped"
    """It was: `at` (when)."""
    DISK_NEARLY_FULL = "disk-nearly-full"
    """Of what their container may take of the disk, so much is taken: `percent`."""
    OTHER = "other"
    """What a newer server says: nobody is told, and nothing is accepted."""

    @classmethod
    def _missing_(cls, value: object) -> NoticeKind:
        return cls.OTHER


def _check_word(word: str) -> None:
    if len(word) > _LONGEST or not word.isprintable():
        raise ValueError("no word")


@dataclass(frozen=True)
class Facts:
    """What a notice is about; what doesn't belong to its kind stays empty.

    Moments are seconds since the epoch, by the server's clock. ValueError for what can't be.
    """

    gpus: int = 0
    model: str = ""
    at: float | None = None
    until: float | None = None
    other: str = ""
    """Another user."""
    percent: int = 0
    reservation: str = ""
    """Its id, as `ssh gpu17-manage release ID` takes it."""

    def __post_init__(self) -> None:
        if not (0 <= self.gpus <= 1000 and 0 <= self.percent <= 100):
            raise ValueError("a number out of its range")
        for moment in (self.at, self.until):
            if moment is not None and not 0 <= moment <= LATEST:
                raise ValueError("no moment")
        for word in (self.model, self.other, self.reservation):
            _check_word(word)


@dataclass(frozen=True)
class Notice:
    """One thing that one person is told. ValueError for what can't be."""

    id: str
    """Of this server's, made up when it was first said."""
    user: str
    kind: NoticeKind
    made: float
    """Seconds since the epoch, by the server's clock."""
    facts: Facts = Facts()

    def __post_init__(self) -> None:
        if not is_ident(self.id):
            raise ValueError("no notice's id")
        if not 0 <= self.made <= LATEST:
            raise ValueError("no moment")
        _check_word(self.user)


def is_ident(text: str) -> bool:
    """Whether `text` can be a notice's id."""
    return _IDENT.fullmatch(text) is not None
