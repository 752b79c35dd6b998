"""What the state repository's pre-receive hook lets in.

Git has put the pushed objects into a quarantine (git-receive-pack(1)): they are read by way of
the environment that it gives to the hook, and vanish when the push is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from state.errors import LxcGpuError
from state.git.commits import MAIN
from state.git.repository import Repository
from state.reading.problems import StateInvalidError
from state.trust.walk import begin, walk

_UPDATE = re.compile(r"([0-9a-f]{40,64}) ([0-9a-f]{40,64}) (refs/\S+)", re.ASCII)


class PushRefusedError(LxcGpuError):
    """A push that would break the state repository."""


def judge_push(lines: Iterable[str], repository: Repository) -> None:
    """Refuse what must not be pushed; `lines` are `OLD NEW REF`, as Git gives them to the hook.

    `main` only ever goes forward, to a valid state, by commits that their signers may make
    (`state.trust.walk`). Other branches are free, for work that is reviewed before it comes to
    main; anything else (tags, notes) is refused. PushRefusedError and RevisionRefusedError say why;
    StateInvalidError names every problem of the pushed state.
    """
    for line in lines:
        update = _UPDATE.fullmatch(line.strip())
        if update is None:
            raise _refused(f"the hook was given {line.strip()!r}, which is no update of a branch.")
        _judge(*update.groups(), repository=repository)


def _judge(old: str, new: str, ref: str, *, repository: Repository) -> None:
    if not ref.startswith("refs/heads/"):
        raise _refused(f"{ref} is no branch.", "Push branches only.")
    if ref != MAIN:
        return
    if not new.strip("0"):
        raise _refused("`main` can't be deleted: the servers follow it.")
    if old.strip("0") and not repository.is_ancestor(old, new):
        raise _refused(
            "`main` only goes forward: what is pushed does not contain what is there.",
            "`git pull --rebase`, then push again; undo by `git revert`, never by force.",
        )
    try:
        repository.read(new)
    except StateInvalidError as error:
        error.hint = "Nothing was pushed. `lxc-gpu check` shows the same before you push."
        raise
    if old.strip("0"):
        walk(repository, old, new)
    else:
        begin(repository, new)


def _refused(message: str, hint: str = "") -> PushRefusedError:
    return PushRefusedError("push-refused", f"Refused: {message}", hint)
