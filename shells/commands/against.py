"""`lxc-gpu check --against REVISION`: says what merging a branch would change, and for whom.

The result of the merge is checked, not the branch: two requests that are fine on their own can
still allocate the same number.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shells.commands.clone import Clone
from state.edits.changes import StateChange, describe
from state.errors import LxcGpuError
from state.git.repository import Repository
from state.model.documents import State
from state.model.layout import subject_of
from state.reading.problems import StateInvalidError
from state.trust.lineage import FULL_ID, differences
from state.trust.policy import judge, role_needed
from state.trust.walk import walk
from state.words import plural, printable

_HEADINGS = {
    "fleet": "The fleet",
    "server": "Servers",
    "user": "Users",
    "registration": "Registrations",
    "announcement": "Announcements",
}
MOST_LISTED = 200
"""Changes that are listed one by one. With more, reading the diff is easier."""


@dataclass(frozen=True)
class Comparison:
    """What a merge would change, and what is wrong with that."""

    base: str
    head: str
    changes: tuple[StateChange, ...] = ()
    others: tuple[str, ...] = ()
    """Changed files that don't belong to the state."""
    role: str = ""
    """The role that the change needs; empty if there is none."""
    forward: str = ""
    """Why the branch can't be merged by a fast-forward, which keeps its signatures; empty if it
    can."""
    problems: tuple[str, ...] = ()

    def for_programs(self) -> dict[str, Any]:
        """The comparison for programs."""
        changes = [
            {"kind": c.subject_kind, "subject": c.subject, "field": c.field, "words": c.words}
            for c in self.changes
        ]
        return {**vars(self), "changes": changes}

    def markdown(self) -> str:
        """The comparison in Markdown, for a pull request."""
        return "\n".join(_lines(self)) + "\n"


def compare(folder: Path, revision: str) -> Comparison:
    """Compare `revision` with the result of merging the current branch of the clone at `folder`."""
    clone = Clone.open(folder)
    base, head = clone.revision(revision), clone.revision("HEAD")
    repository = Repository(clone.git_folder)
    tree, conflicts = _merged(repository, base, head)
    if conflicts:
        said = tuple(f"{path}: was changed on both sides" for path in conflicts)
        return Comparison(base, head, problems=said)
    try:
        old, new = repository.read(base), repository.read(tree)
    except StateInvalidError as error:
        return Comparison(base, head, problems=tuple(map(str, error.problems)))
    (changed,) = differences(repository.git, [(repository.tree_id(base), tree)])
    paths = [entry.path for entry in changed]
    changes = describe(old, new)
    role = role_needed(old, new, paths, old.fleet.signers) if paths else ""
    return Comparison(
        base, head, changes, _others(paths), role, _forward(repository, base, head),
        _refusals(old, new, paths, role),
    )  # fmt: skip


def _merged(repository: Repository, base: str, head: str) -> tuple[str, list[str]]:
    """The tree of the merge, and the paths with conflicts."""
    words = ("merge-tree", "--write-tree", "--name-only", "--no-messages", "-z", base, head)
    answered = repository.git.ask(words)
    tree, *conflicts = answered.output.decode("utf-8", "replace").split("\0")
    if answered.status not in (0, 1) or not FULL_ID.fullmatch(tree):
        raise LxcGpuError(
            "no-merge",
            "The two can't be merged: they have no history in common, or too little was fetched.",
            "In CI, fetch all of the history; else: git fetch origin.",
            details=answered.errors,
        )
    return tree, [path for path in conflicts if path] if answered.status else []


def _others(paths: list[str]) -> tuple[str, ...]:
    return tuple(path for path in paths if subject_of(path) is None)


def _refusals(old: State, new: State, paths: list[str], role: str) -> tuple[str, ...]:
    """Why not even an admin may make this change; empty if some role may."""
    admin = next((each for each in old.fleet.signers if each.role == "admin"), None)
    if role or not paths:
        return ()
    reasons = judge(old, new, admin, paths)
    return tuple(f"fleet.yaml: {'the change' if admin else 'nobody here'} {r}" for r in reasons)


def _forward(repository: Repository, base: str, head: str) -> str:
    try:
        walk(repository, base, head)
    except LxcGpuError as error:
        return error.message
    return ""


def _lines(found: Comparison) -> Iterator[str]:
    if found.problems:
        yield f"### {plural(len(found.problems), 'problem')} to correct"
        yield ""
        yield from (f"- {_escaped(problem)}" for problem in found.problems)
        return
    if not (found.changes or found.others):
        yield "Nothing changes."
        return
    for kind, heading in _HEADINGS.items():
        said = [change.words for change in found.changes if change.subject_kind == kind]
        if said:
            yield from (f"### {heading}", "")
            yield from (f"- {_escaped(words)}" for words in said[:MOST_LISTED])
            if said[MOST_LISTED:]:
                yield f"- and {len(said) - MOST_LISTED} more"
            yield ""
    if found.others:
        yield f"Other files: {', '.join(f'`{_printable(path)}`' for path in found.others)}."
        yield ""
    yield f"Committing this to `main` needs the role **{found.role}**."
    if found.forward:
        yield f"A fast-forward is not possible: {_escaped(found.forward)}"
    else:
        yield (
            "A fast-forward is possible: every commit is signed by somebody with the right "
            "to make it."
        )


def _escaped(text: str) -> str:
    """`text` escaped, so that Markdown shows it literally: full names may contain anything."""
    return re.sub(r"([\\`*_\[\]<#|~!&@])", r"\\\1", _printable(text))


def _printable(text: str) -> str:
    return printable(text, without="`")
