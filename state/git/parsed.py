"""Parsed files by blob id, kept in one file, so that reading a state costs what changed.

A blob id names content for good, so an entry is never stale. The file carries its own checksum:
what a kill or a full disk left half-written counts as not there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from state.files import write_file
from state.reading.syntax import Document

_VERSION = 1
"""Raised when `state.reading.syntax` comes to read the same text differently."""


class ParsedFiles:
    """Documents by blob id. Losing the file at `path` loses time, nothing else."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._documents: dict[str, Document] | None = None

    def documents(self) -> Mapping[str, Document]:
        """All that are known."""
        if self._documents is None:
            self._documents = _read(self._path)
        return self._documents

    def add(self, fresh: Mapping[str, Document], current: Iterable[str]) -> None:
        """Remember `fresh` too; of the others, only those in `current` are kept on disk."""
        known = {**self.documents(), **fresh}
        kept = {blob: known[blob] for blob in current if blob in known}
        self._documents = known if len(known) < 2 * len(kept) + 1000 else kept
        _write(self._path, kept)


def _read(path: Path) -> dict[str, Document]:
    try:
        checksum, _, body = path.read_bytes().partition(b"\n")
        if checksum.decode("ascii") != hashlib.sha256(body).hexdigest():
            return {}
        content = json.loads(body)
        if content["version"] != _VERSION:
            return {}
        documents: dict[str, Document] = content["documents"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return documents


def _write(path: Path, documents: Mapping[str, Document]) -> None:
    """Replace the file at `path`; where that isn't allowed, there is no file, and no error."""
    content = {"version": _VERSION, "documents": documents}
    body = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
    with suppress(OSError):
        write_file(path, hashlib.sha256(body).hexdigest().encode() + b"\n" + body, 0o600)
