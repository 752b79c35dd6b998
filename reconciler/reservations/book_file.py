"""The file of the book, which is root's and changed under the lock `locks.GLOBAL` only.

It has two lines: the reservations that aren't over, and the past ones. So asking who has which GPU
now doesn't read thousands of past ones, unless a wrong clock moved open ones there. Everybody on
the server may read it: reservations are no secret, and the load's stream, which tells them, isn't
root.
"""

from __future__ import annotations

import json
from typing import Any

from reconciler.host import places
from reconciler.host.boot import boot_clock
from reconciler.reservations.book import Book, Reservation
from state import files, plain
from state.errors import LxcGpuError

_DAMAGE = (OSError, ValueError)


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
            book = _book(_part(stream.readline(), "open", "last"))
    except FileNotFoundError:
        return Book()
    except _DAMAGE as error:
        raise _damaged(error) from error
    return book if book.clock <= now else read().aged(now, boot_clock())


def write(book: Book) -> None:
    """Write the book. The caller holds the global lock."""
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
    fields = plain.to_plain(reservation)
    return {k: v for k, v in fields.items() if v or k not in ("maker", "since")}


def from_json(text: str) -> Book:
    """What `to_json` wrote. ValueError if it is damaged."""
    first, second = text.splitlines()
    return _book({**_part(first, "open", "last"), **_part(second, "past", "sums")})


def _part(line: str, *needed: str) -> dict[str, Any]:
    fields = plain.parsed(line)
    if type(fields) is not dict or not fields.keys() >= set(needed):
        raise ValueError("a part of the book is missing")
    return fields


def _book(fields: dict[str, Any]) -> Book:
    book = plain.from_plain(Book, fields)
    for listed in (book.open, book.past):
        if len({each.id for each in listed}) != len(listed):
            raise ValueError("an id is there twice")
        if not all(each.begins < each.ends and each.gpus for each in listed):
            raise ValueError("a reservation of nothing")
    taken: dict[str, float] = {}
    for each in sorted(book.open, key=lambda each: each.begins):
        for gpu in each.gpus:
            if each.begins < taken.get(gpu, 0.0):
                raise ValueError(f"reserved twice: {gpu}")
            taken[gpu] = each.ends
    return book.in_order()
