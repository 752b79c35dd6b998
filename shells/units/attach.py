"""Runs before a start by systemctl(1): mounts the container's root if its system is raw."""

from __future__ import annotations

from collections.abc import Sequence

from reconciler.host import journal
from reconciler.host.published import current_view, resident_of
from reconciler.mounts.tree import Tree
from reconciler.systems.attached import attach
from state.errors import LxcGpuError


def main(argv: Sequence[str]) -> int:
    """Mount the root for the named user. The exit status: 1 if that fails."""
    (user,) = argv
    try:
        view = current_view()
        attach(Tree.of(view, user, resident_of(view, user)), user)
    except (LxcGpuError, OSError) as error:
        code = error.code if isinstance(error, LxcGpuError) else "system"
        journal.event("attach-failed", user=user, code=code, why=str(error))
        return 1
    return 0
