"""The snapshots that a server takes by itself: what lxc-gpu-snapshots.service runs, as root."""

from __future__ import annotations

from collections.abc import Sequence

from reconciler.host import journal
from reconciler.host.published import published_view
from reconciler.host.suspension import suspension
from reconciler.snapshots.take import take_due


def main(argv: Sequence[str]) -> int:
    """Take those that are due; the exit status."""
    view, failed = published_view(), False
    if view is None or view.snapshots_every is None or suspension() is not None:
        return 0
    for user, error in take_due(view):
        if error is not None:
            journal.event("snapshot-failed", user=user, code=error.code, why=str(error))
            failed = True
    return int(failed)
