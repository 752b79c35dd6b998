"""The keys that open our accounts, and how a connection was opened. Standard library only."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_LINE = re.compile(
    r'(?!#)(?P<options>(?:"[^"]*"|[^\s"])+) (?P<key>[a-z][\w@.-]+ [\w+/]+=*)(?: .*)?', re.ASCII
)
_COMMAND = re.compile(r'(?:^|,)command="([^"]*)"')
_MOMENT = 0.1
"""Seconds within which two times of the kernel's clocks may be the same."""


@dataclass(frozen=True)
class Keys:
    """What opens an account."""

    lines: frozenset[tuple[str, str]]
    """The forced command, or no text, and the key that it stands with."""
    changed: float
    """When the file was last changed, in seconds since 1970; infinity: there is none."""


@dataclass(frozen=True)
class Opened:
    """How a connection was opened, as far as it is known."""

    keys: frozenset[str] = frozenset()
    """The keys that sshd took; empty: unknown."""
    began: float = 0.0
    """When the connection came in, in seconds since 1970: before it was asked for a key."""
    running: str = ""
    """The command line of what sshd started for it; empty: unknown."""

    def stands(self, keys: Keys) -> bool:
        """Whether the account would still be opened like that: same key, same forced command.

        Unknown counts as revoked, unless the connection is younger than the last change.
        """
        if not self.keys:
            return self.began > keys.changed + _MOMENT
        fitting = {
            key for command, key in keys.lines if not self.running or self.running.endswith(command)
        }
        return self.keys <= fitting


def keys_in(file: Path) -> Keys:
    """What sshd reads in one of our files of keys; lines of another form open nothing."""
    try:
        with file.open(encoding="utf-8", errors="replace") as stream:
            changed, text = os.fstat(stream.fileno()).st_ctime, stream.read()
    except FileNotFoundError:
        return Keys(frozenset(), float("inf"))
    return Keys(frozenset(lines_of(text)), changed)


def lines_of(text: str) -> Iterator[tuple[str, str]]:
    """The forced command and the key of each line with options (sshd(8)). Pure."""
    for line in text.splitlines():
        if found := _LINE.fullmatch(line):
            command = _COMMAND.search(found["options"])
            yield command[1] if command else "", found["key"]
