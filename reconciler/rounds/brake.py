"""The brake: a revision that would disable more than a few users at once is not taken.

A broken script, a wrong merge or a directory that lost its people would lock everybody out of every
server within seconds. A commit by an admin with the trailer `Allow-Disable: N` lets it through, on
all servers at once.
"""

from __future__ import annotations

from collections.abc import Collection

from reconciler.kinds.accounts.account import AccountKind
from state.errors import LxcGpuError
from state.view import View
from state.words import plural

NAMED = 10
"""How many users the message names at most."""


def leaving(view: View) -> tuple[str, ...]:
    """The users who have a working account here and none in `view`."""
    found = AccountKind().observe(view, view.residents.keys()).found
    enabled = {name for name, account in found.items() if account.enabled and account.ours}
    return tuple(sorted(enabled - view.residents.keys()))


def check_brake(view: View, gone: Collection[str]) -> None:
    """LxcGpuError if `view` disables more users, namely `gone`, than it may."""
    allowed = max(view.most_disabled, view.allow_disable)
    if len(gone) <= allowed:
        return
    names = ", ".join(sorted(gone)[:NAMED]) + (", ..." if len(gone) > NAMED else "")
    raise LxcGpuError(
        "brake",
        f"This would disable {plural(len(gone), 'user')} at once ({names}); {allowed} are allowed.",
        f"If it is meant, an admin commits with the trailer `Allow-Disable: {len(gone)}`; "
        "else `git revert` what removed them.",
    )
