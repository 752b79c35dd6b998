"""An edit: a function from one state to the next, which can be applied again to a newer state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from state.edits.changes import describe
from state.edits.subject_line import message
from state.model.documents import State


@dataclass(frozen=True)
class Edit:
    """One change that somebody wants. `apply` is pure, and may be called more than once."""

    apply: Callable[[State], State]
    note: str = ""
    """Added to the commit message, for what the change itself doesn't say."""
    user: Callable[[State], str | None] = lambda _: None
    """The name, in a given state, of the user whose edit it is; None if they aren't in it."""

    def message(self, old: State, new: State) -> str:
        """The commit message: what changed, in words, then the note."""
        return f"{message(describe(old, new))}\n\n{self.note}".strip()
