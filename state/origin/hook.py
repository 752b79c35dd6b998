"""What the state repository's pre-receive hook lets in.

Git has put the pushed objects into a quarantine (git-receive-pack(1)): they are read by way of
the environment that it gives to the hook, and vanish when the push is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from state.git.commits import MAIN, shown
from state.git.repository import Repository
from state.origin.limits import judge_branches, judge_objects, refused
from state.reading.problems import StateInvalidError
from state.trust.walk import begin, walk

_UPDATE = re.compile(r"([0-9a-f]{40,64}) ([0-9a-f]{40,64}) (refs/\S+)", re.ASCII)


@dataclass(frozen=True)
class _Update:
    """What a push makes of one branch; a revision of zeros: it isn't there."""

    old: str
    new: str
    ref: str

    @property
    def deletes(self) -> bool:
        return not self.new.strip("0")


def judge_push(lines: Iterable[str], repository: Repository) -> None:
    """Refuse what must not be pushed; `lines` are `OLD NEW REF`, as Git gives them to the hook.

    `main` only ever goes forward, to a valid state, by commits that their signers may make
    (`state.trust.walk`). Other branches are for work that is reviewed before it comes to main:
    they come and go as people like, within limits (`state.origin.limits`). Anything else (tags,
    notes) is refused. PushRefusedError and RevisionRefusedError say why; StateInvalidError names
    every problem of the pushed state.
    """
    updates = [_update(line) for line in lines]
    for update in updates:
        _judge_name(update, repository)
    pushed = [update for update in updates if not update.deletes]
    if pushed:
        judge_objects(repository, [update.new for update in pushed])
    mains = [update for update in pushed if update.ref == MAIN]
    if others := [(update.ref, update.new) for update in pushed if update.ref != MAIN]:
        judge_branches(repository, others, mains[0].new if mains else _main(repository))
    for update in mains:
        _judge_state(update, repository)


def _update(line: str) -> _Update:
    found = _UPDATE.fullmatch(line.strip())
    if found is None:
        raise refused(f"the hook was given {line.strip()!r}, which isn't an update of a branch.")
    return _Update(*found.groups())


def _main(repository: Repository) -> str:
    known = repository.git.ask(("rev-parse", "--verify", "--quiet", MAIN))
    return known.output.decode("ascii", "replace").strip()


def _judge_name(update: _Update, repository: Repository) -> None:
    if not update.ref.startswith("refs/heads/"):
        raise refused(f"{shown(update.ref)} isn't a branch.", "Push branches only.")
    if update.ref != MAIN:
        return
    if update.deletes:
        raise refused("`main` can't be deleted: the servers follow it.")
    if update.old.strip("0") and not repository.is_ancestor(update.old, update.new):
        raise refused(
            "`main` only goes forward: what is pushed does not contain what is there.",
            "`git pull --rebase`, then push again; undo by `git revert`, never by force.",
        )


def _judge_state(update: _Update, repository: Repository) -> None:
    try:
        repository.read(update.new)
    except StateInvalidError as error:
        error.hint = "Nothing was pushed. `lxc-gpu check` shows the same before you push."
        raise
    if update.old.strip("0"):
        walk(repository, update.old, update.new)
    else:
        begin(repository, update.new)
