"""Takes the server's automatic snapshots: lxc-gpu-snapshots.service runs this, as root."""

from __future__ import annotations

from collections.abc import Sequence

from reconciler.host import journal
from reconciler.host.published import published_view
from reconciler.host.suspension import suspension
from reconciler.snapshots.take import take_due


def main(argv: Sequence[str]) -> int:
    """Take the snapshots that are due. The exit status."""
    view, failed = published_view(), False
    if view is None or view.snapshots_every is None or suspension() is not None:
        return 0
    for user, error in take_due(view):
        if error is not None:
            journal.event("snapshot-failed", user=user, code=error.code, why=str(error))
            failed = True
    return int(failed)
