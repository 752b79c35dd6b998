"""The file of the book, which is root's and changed under the lock `locks.ACCOUNTS` only.

It has two lines: the reservations that aren't over, and the past ones. So asking who has which GPU
now doesn't read thousands of past ones, unless a wrong clock moved open ones there. Everybody on
the server may read it: reservations are no secret, and the load's stream, which tells them, isn't
root.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from reconciler.host import places
from reconciler.reservations.book import Book, Reservation
from reconciler.reservations.use_record import boot_clock
from state import files
from state.errors import LxcGpuError

LATEST = 32_503_680_000.0
"""The year 3000."""
_DAMAGE = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError)


def read() -> Book:
    """The whole book. LxcGpuError if it can't be read: unreadable is not empty."""
    try:
        text = files.read_text(places.RESERVATIONS)
        return Book() if text is None else from_json(text)
    except _DAMAGE as error:
        raise _damaged(error) from error


def read_open(now: float) -> Book:
    """The book without the past, for looking only. LxcGpuError if it can't be read.

    The past is read, too, if the clock went back, so that some of it may still be to come.
    """
    try:
        with places.RESERVATIONS.open(encoding="utf-8") as stream:
            book = _open_part(json.loads(stream.readline()))
    except FileNotFoundError:
        return Book()
    except _DAMAGE as error:
        raise _damaged(error) from error
    return book if book.clock <= now else read().aged(now, boot_clock())


def write(book: Book) -> None:
    """Write the book. The lock ACCOUNTS is held."""
    files.write_file(places.RESERVATIONS, to_json(book), 0o644)


def changed() -> tuple[int, ...] | None:
    """A value that changes whenever the file is written; None while there is no file."""
    try:
        found = places.RESERVATIONS.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size


def _damaged(error: Exception) -> LxcGpuError:
    return LxcGpuError(
        "reservations-damaged",
        "The list of reservations on this server can't be read, so nobody can reserve, extend or "
        "release GPUs. Nothing of it is lost or changed.",
        f"Sysadmin: put {places.RESERVATIONS} back from a backup, or move it away: then nothing is "
        "reserved, and people ask again.",
        details=repr(error),
    )


def to_json(book: Book) -> str:
    """The book as text of two lines, the same for equal books."""
    present = {
        "last": book.last,
        "clock": book.clock,
        "sure": book.sure,
        "boot": book.boot,
        "open": [_fields(r) for r in book.open],
    }
    past = {
        "past": [_fields(r) for r in book.past],
        "sums": {user: dict(months) for user, months in sorted(book.sums.items())},
    }
    lines = (json.dumps(each, separators=(",", ":")) for each in (present, past))
    return "".join(f"{line}\n" for line in lines)


def _fields(reservation: Reservation) -> dict[str, object]:
    """The fields of a reservation; those about handing over only if they are set."""
    return {k: v for k, v in vars(reservation).items() if v or k not in ("maker", "since")}


def from_json(text: str) -> Book:
    """What `to_json` wrote. ValueError, KeyError, TypeError or AttributeError if it is damaged."""
    first, second = text.splitlines()
    present, past = _open_part(json.loads(first)), json.loads(second)
    sums = {
        str(user): {str(month): _moment(hours) for month, hours in months.items()}
        for user, months in past["sums"].items()
    }
    return replace(present, past=_reservations(past["past"]), sums=sums)


def _open_part(fields: Mapping[str, Any]) -> Book:
    if type(fields["last"]) is not int:
        raise ValueError("last is not a number")
    found = _reservations(fields["open"])
    taken: dict[str, float] = {}
    for each in found:
        for gpu in each.gpus:
            if each.begins < taken.get(gpu, 0.0):
                raise ValueError(f"reserved twice: {gpu}")
            taken[gpu] = each.ends
    clock, sure, boot = (_moment(fields.get(name, 0)) for name in ("clock", "sure", "boot"))
    return Book(found, last=fields["last"], clock=clock, sure=sure, boot=boot)


def _reservations(listed: Sequence[Mapping[str, Any]]) -> tuple[Reservation, ...]:
    found = tuple(_reservation(fields) for fields in listed)
    if len({each.id for each in found}) != len(found):
        raise ValueError("an id is there twice")
    return tuple(sorted(found, key=lambda each: (each.begins, each.id)))


def _reservation(fields: Mapping[str, Any]) -> Reservation:
    made = Reservation(**{**fields, "gpus": tuple(fields["gpus"])})
    words = (made.id, made.user, made.series, made.maker, *made.gpus)
    if not all(isinstance(word, str) and len(word) <= 128 for word in words) or not made.gpus:
        raise TypeError("no words")
    _moment(made.made), _moment(made.since)
    if not _moment(made.begins) < _moment(made.ends):
        raise ValueError("ends before it begins")
    return made


def _moment(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError("no number")
    if not math.isfinite(value) or not 0 <= value <= LATEST:
        raise ValueError("no moment")
    return float(value)
