"""Commits of the state repository: who, when, what, and what came of an edit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from state.words import printable

if TYPE_CHECKING:
    from state.git.plumbing import Plumbing
    from state.model.documents import State

MAIN = "refs/heads/main"
"""The one branch that servers follow."""
LATEST = 253_402_300_799
"""Seconds since the epoch: the last moment of the year 9999, which is datetime's last."""
AS_STORED = "--encoding=none"
"""Has `git log` print what stands in a commit: no other charset, which may stand for anything."""
FIELDS = ("%H", "%h", "%an", "%ae", "%at", "%s")
"""What `commit_of` needs of `git log --format`."""


@dataclass(frozen=True)
class Author:
    """Who a commit is by."""

    name: str
    email: str


@dataclass(frozen=True)
class Commit:
    """One entry of the history."""

    revision: str
    short: str
    name: str
    email: str
    when: datetime
    subject: str


@dataclass(frozen=True)
class Committed:
    """What a commit came to: the revision that holds it now, and the state there."""

    revision: str
    changed: bool
    """False if there was nothing to commit."""
    state: State
    message: str = ""


def log(git: Plumbing, words: Sequence[str], *more: str) -> Iterator[list[str]]:
    """What `git log` says of each commit: FIELDS, and `more` of its placeholders."""
    fields = (*FIELDS, *more)
    shape = f"--format=tformat:{'%x00'.join((*fields, ''))}"
    texts = git.run("log", AS_STORED, shape, *words).decode("utf-8", "replace").split("\0")
    for at in range(0, len(texts) - len(fields), len(fields)):
        yield texts[at : at + len(fields)]


def commit_of(row: Sequence[str]) -> Commit:
    """The commit that Git described by `FIELDS`. Anybody may have written it: nothing fails."""
    revision, short, name, email, when, subject = row
    return Commit(
        revision.strip(), short, shown(name, 60), shown(email, 60), _moment(when), shown(subject)
    )


def shown(text: str, most: int = 200) -> str:
    """`text` as one short line without control characters: anybody may have written it."""
    line = printable(text.strip())
    return line if len(line) <= most else f"{line[: most - 1]}…"


def _moment(seconds: str) -> datetime:
    """A date of a commit; one that no clock shows counts as the first or the last there is."""
    try:
        return datetime.fromtimestamp(min(max(int(seconds), 0), LATEST), UTC)
    except ValueError:
        return datetime.fromtimestamp(0, UTC)
