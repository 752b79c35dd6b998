"""Commits of the state repository: who, when, what, and what came of an edit."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from state.model.documents import State

MAIN = "refs/heads/main"
"""The one branch that servers follow."""


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
