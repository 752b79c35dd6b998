"""What a server lacks of the state, carried by the nudge itself: so it needn't fetch first.

News are the id of the newest commit, in a line of its own, then a thin pack (gitformat-pack(5)) of
what came since a revision that the server is on. Whoever takes them trusts nobody: they are read
once, within limits, and Git checks each object as it does in a fetch. What they bring becomes part
of the clone only when the caller has found the commits to be right.
"""

from __future__ import annotations

import re
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree

from state.files import sync_folder
from state.git.plumbing import Plumbing
from state.git.repository import Repository
from state.wire.messages import LONGEST_NEWS
from state.words import plural

MOST_UNPACKED = 8 * 1024 * 1024
"""Bytes of all objects together; the folder of 10,000 users is one of 400,000."""
MOST_OBJECTS = 2000
SECONDS = 10.0
"""For Git to unpack them."""

_ID = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?", re.ASCII)
_WHOLE = frozenset((1, 2, 3))
"""Commits, trees, blobs. Tags are none of ours."""
_BY_PLACE, _BY_NAME = 6, 7
"""Objects that are said by their difference from another one, of the pack or of the clone."""


class BadNewsError(ValueError):
    """News that aren't taken. It does no harm: a fetch brings the same."""


def news(git: Plumbing, base: str, tip: str) -> bytes | None:
    """What whoever is at `base` lacks of `tip`; None if that is too much, or `base` isn't known.

    Then the server fetches.
    """
    words = ("pack-objects", "--quiet", "--revs", "--thin", "--stdout", "--delta-base-offset")
    packed = git.ask(words, stdin=f"{tip}\n^{base}\n".encode(), limit=SECONDS)
    found = f"{tip}\n".encode() + packed.output
    return found if packed.status == 0 and len(found) <= LONGEST_NEWS else None


def tip_of(carried: bytes) -> str:
    """The newest commit that the news speak of. BadNewsError if they aren't news."""
    tip = carried.partition(b"\n")[0].decode("ascii", "replace")
    if not _ID.fullmatch(tip):
        raise BadNewsError("they don't name a commit")
    return tip


@contextmanager
def unpacked(clone: Repository, carried: bytes) -> Iterator[Repository]:
    """The clone with what the news bring besides. It stays in the clone if the block ends well.

    BadNewsError if they are damaged, too large, or need what the clone doesn't have.
    """
    pack = carried.partition(b"\n")[2]
    _measure(pack, len(tip_of(carried)) // 2)
    beside, prefix = clone.path.parent, f".{clone.path.name}.news-"
    with clone.alone():
        for leftover in beside.glob(f"{prefix}*"):
            rmtree(leftover, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix=prefix, dir=beside) as folder:
            fresh = _on_top_of(clone, Path(folder))
            words = ("unpack-objects", "-q", "--strict", f"--max-input-size={LONGEST_NEWS}")
            taken = fresh.git.ask(words, stdin=pack, limit=SECONDS)
            if taken.status:
                raise BadNewsError(taken.errors.strip())
            yield fresh
            _move_objects(fresh.path / "objects", clone.path / "objects")


def _move_objects(fresh: Path, there: Path) -> None:
    """Move what was unpacked into the clone, durably: what is trusted next goes by it."""
    changed = {there}
    for made in fresh.glob("??/*"):
        place = there / made.parent.name
        place.mkdir(exist_ok=True)
        made.rename(place / made.name)
        changed.add(place)
    for folder in changed:
        sync_folder(folder)


def _on_top_of(clone: Repository, folder: Path) -> Repository:
    """A repository in `folder` that sees the clone's objects (gitrepository-layout(5))."""
    for part in ("refs", "objects/info"):
        (folder / part).mkdir(parents=True)
    (folder / "HEAD").write_text("ref: refs/heads/main\n")
    (folder / "config").write_bytes((clone.path / "config").read_bytes())
    (folder / "objects/info/alternates").write_text(f"{clone.path / 'objects'}\n")
    return Repository(folder, clone.git.ssh_command)


def _measure(pack: bytes, id_bytes: int) -> None:
    """BadNewsError unless all objects of the pack, unpacked, are within the limits.

    Git has no limit of its own for it: a few bytes may stand for gigabytes.
    """
    if len(pack) > LONGEST_NEWS or pack[:8] != b"PACK\0\0\0\2":
        raise BadNewsError("they hold no pack, or one that is too large")
    count, at, left = int.from_bytes(pack[8:12], "big"), 12, MOST_UNPACKED
    if count > MOST_OBJECTS:
        raise BadNewsError(f"they hold {plural(count, 'object')}")
    try:
        for _ in range(count):
            kind, size, at = _head(pack, at)
            if kind == _BY_NAME:
                at += id_bytes
            elif kind == _BY_PLACE:
                _, at = _number(pack, at)
            elif kind not in _WHOLE:
                raise BadNewsError(f"an object is of the kind {kind}")
            content, at = _inflated(pack, at, min(size, left))
            if kind not in _WHOLE:  # the sizes of what it differs from, and of what it makes
                _, then = _number(content, 0)
                size = max(size, _number(content, then)[0])
            left -= size
            if left < 0:
                raise BadNewsError("unpacked, they are too large")
    except (IndexError, zlib.error) as error:
        raise BadNewsError(f"they are damaged: {error}") from None
    if at + id_bytes != len(pack):  # a digest ends it
        raise BadNewsError("they go on after their end")


def _head(pack: bytes, at: int) -> tuple[int, int, int]:
    """Kind and size of the object at `at`, and where it goes on."""
    first = pack[at]
    more, after = _number(pack, at + 1) if first & 0x80 else (0, at + 1)
    return first >> 4 & 7, more << 4 | first & 0x0F, after


def _number(text: bytes, at: int) -> tuple[int, int]:
    """A number in groups of seven bits, the lowest first, and where it ends.

    A longer one than Git's would take hours: each group copies what there is.
    """
    number = shift = 0
    while shift < 64:
        byte = text[at]
        number |= (byte & 0x7F) << shift
        shift, at = shift + 7, at + 1
        if not byte & 0x80:
            return number, at
    raise BadNewsError("a number is too large")


def _inflated(pack: bytes, at: int, most: int) -> tuple[bytes, int]:
    """What the compressed text at `at` says, and where it ends. It says no more than `most`."""
    inflate = zlib.decompressobj()
    content = inflate.decompress(pack[at:], most + 1)
    if len(content) > most or not inflate.eof:
        raise BadNewsError("an object is larger than it says, or cut off")
    return content, len(pack) - len(inflate.unused_data)
