"""A record in a file of its own: written as a whole, distrusted when it is read.

Lists of which nothing may be lost are read by `plain.from_json` instead: there, a file that can't
be read is not an empty one.
"""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from state import files, plain

T = TypeVar("T")


def read(path: Path, kind: type[T]) -> T | None:
    """The record in a file; None if there is none or it is damaged. OSError if it can't be read."""
    text = files.read_text(path)
    try:
        return None if text is None else plain.from_json(kind, text, newer=True)
    except plain.NotPlainError:
        return None


def read_if_possible(path: Path, kind: type[T]) -> T | None:
    """Like `read`, for records that one can do without: None also if the disk gives none."""
    try:
        return read(path, kind)
    except OSError:
        return None


def write(path: Path, value: object, mode: int = 0o644) -> None:
    """Keep it in a file of its own."""
    files.write_file(path, plain.to_json(value), mode)
