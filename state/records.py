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
    """What `write` kept in a file; None if nothing is there, or nothing that can be read."""
    try:
        text = files.read_text(path)
        return None if text is None else plain.from_json(kind, text, newer=True)
    except (OSError, plain.NotPlainError):
        return None


def write(path: Path, value: object, mode: int = 0o644) -> None:
    """Keep it in a file of its own."""
    files.write_file(path, plain.to_json(value), mode)
