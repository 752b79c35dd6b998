"""The history of the state repository, for people: newest first, a page at a time."""

from __future__ import annotations

from dataclasses import dataclass

from state.git.commits import MAIN, Commit, commit_of, log, shown
from state.git.repository import Repository

MOST_BEHIND = 100_000
"""Commits that are counted one by one; nobody reads on beyond."""


@dataclass(frozen=True)
class HistoryEntry:
    """One commit with the whole of its message."""

    commit: Commit
    changes: tuple[str, ...]
    """The list in the body: what changed, in words."""
    notes: tuple[str, ...]
    """The paragraphs and lines of the body that aren't a list."""


def entries(repository: Repository, *, skip: int = 0, limit: int = 50) -> tuple[HistoryEntry, ...]:
    """`limit` commits of main after the newest `skip`."""
    window = (f"--skip={int(skip)}", f"--max-count={int(limit)}", MAIN, "--")
    return tuple(map(_entry, log(repository.git, window, "%b")))


def count(repository: Repository) -> int:
    """How many commits there are."""
    return int(repository.git.word("rev-list", "--count", MAIN))


def missing(repository: Repository, revision: str) -> frozenset[str] | None:
    """The commits of main that whoever is at `revision` doesn't have; None if it is unknown."""
    known = repository.git.ask(("cat-file", "-e", f"{revision}^{{commit}}"))
    if known.status:
        return None
    words = ("rev-list", f"--max-count={MOST_BEHIND}", MAIN, f"^{revision}")
    return frozenset(repository.git.run(*words).decode("ascii").split())


def _entry(row: list[str]) -> HistoryEntry:
    *fields, body = row
    lines = [shown(line, 500) for line in body.splitlines() if line.strip()]
    changes = tuple(line[2:] for line in lines if line.startswith("- "))
    notes = tuple(line for line in lines if not line.startswith("- "))
    return HistoryEntry(commit_of(fields), changes, notes)
