"""Commit messages: one line that says everything, or a summary with a list below it.

Sysadmins read the history with `git log --oneline`, so the line names everybody, and sums up what
it has no space for.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from state.edits.changes import NEW, StateChange

LONGEST = 72
"""Characters of a subject; Git's own tools cut off what is longer."""


def message(changes: Sequence[StateChange]) -> str:
    """A commit message for `changes`: one line, and a list below it if there are several."""
    if not changes:
        return "nothing changed"
    whole = "; ".join(map(str, changes))
    if len(changes) == 1 or len(whole) <= LONGEST:
        return whole
    lines = "\n".join(f"- {change}" for change in changes)
    return f"{_subject(changes)}\n\n{lines}"


def _subject(changes: Sequence[StateChange]) -> str:
    def whose(change: StateChange) -> tuple[str, str]:
        return change.subject_kind, change.subject

    summaries = [_summary(tuple(group)) for _, group in groupby(changes, whose)]
    joined = "; ".join(summaries)
    if len(summaries) == 1 or len(joined) <= LONGEST:
        return joined
    names = list(dict.fromkeys(change.subject or change.subject_kind for change in changes))
    what = {change.field for change in changes}
    title = _PLURALS.get(next(iter(what)), "changes") if len(what) == 1 else "changes"
    return _listed(f"{len(changes)} {title}: ", names)


def _summary(changes: tuple[StateChange, ...]) -> str:
    """A summary of all changes of one subject."""
    first = changes[0]
    if len(changes) == 1 or first.field == NEW:  # its keys are part of what is new
        return first.words
    called = first.subject or first.subject_kind
    keys = _keys([change for change in changes if change.field == "keys"])
    rest = list(dict.fromkeys(each.field for each in changes if each.field != "keys"))
    parts = [*(_FIELDS.get(field, field.replace("_", " ")) for field in rest), *keys]
    return f"{called}: {', '.join(parts)}"


def _keys(changes: Sequence[StateChange]) -> list[str]:
    """`2 keys added`, `1 removed`, as the words of the changes say."""
    added = sum(": add SSH key " in change.words for change in changes)
    removed = sum(": remove SSH key " in change.words for change in changes)
    counts = [(added, "added"), (removed, "removed")]
    counts.append((len(changes) - added - removed, "renamed or moved"))
    said = [f"{count} {done}" for count, done in counts if count]
    if said:
        number, _, done = said[0].partition(" ")
        said[0] = f"{number} key{'s' * (number != '1')} {done}"
    return said


def _listed(beginning: str, names: Sequence[str]) -> str:
    """`beginning` and as many names as the line holds."""
    text = beginning + ", ".join(names)
    shown = len(names)
    while len(text) > LONGEST and shown > 1:
        shown -= 1
        text = f"{beginning}{', '.join(names[:shown])}, ..."
    return text


_FIELDS = {"leaves": "leaves", "returns": "returns", "name": "full name"}
_PLURALS = {
    "name": "full names",
    "leaves": "users leave",
    "returns": "users return",
    NEW: "new",
    "keys": "changes of keys",
}
