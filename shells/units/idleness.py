"""One look at who uses their containers: what lxc-gpu-idleness.service runs, as root."""

from __future__ import annotations

from collections.abc import Sequence

from reconciler.host import journal
from reconciler.host.published import published_view
from reconciler.load import idleness, last_use
from state.errors import LxcGpuError


def main(argv: Sequence[str]) -> int:
    """Look, and keep what is known then; the exit status."""
    view = published_view()
    if view is None:  # before the first round there are no containers
        return 0
    try:
        before, boot, now = idleness.read_record(), idleness.boot_id(), idleness.boot_clock()
        idleness.write_record(idleness.judge(before, boot, now, last_use.seen(view)))
    except (LxcGpuError, OSError) as error:
        code = error.code if isinstance(error, LxcGpuError) else "system"
        journal.event("idleness-failed", code=code, why=str(error))
        return 1
    return 0
