"""Has people told that their container has taken nearly all of the disk that it may take.

Only where the kernel counts that and holds them to it (`reconciler.kinds.containers.disk_quota`):
elsewhere, du(1) would have to read everything.
"""

from __future__ import annotations

from collections.abc import Mapping

from reconciler.disk.project_quota import QuotaUse
from reconciler.host.journal import event
from reconciler.kinds.containers import disk_quota
from reconciler.notices import store as notices
from state.errors import LxcGpuError
from state.view import View
from state.wire.notices import Facts, NoticeKind

FULL, ROOM = 95, 85
"""Percent from which on it is said, and below which it is over: who goes up and down between them
isn't told each time."""
KIND, ABOUT = NoticeKind.DISK_NEARLY_FULL, "disk"


def look(view: View) -> None:
    """See how much everybody has taken, and say it; what goes wrong stops no round."""
    try:
        if disk_quota.available(view):
            say({user: disk_quota.use_of(view, user) for user in view.residents})
    except (LxcGpuError, OSError) as error:
        code = error.code if isinstance(error, LxcGpuError) else "system"
        event("notices-failed", code=code, why=str(error))


def say(uses: Mapping[str, QuotaUse | None]) -> None:
    """Notice whose is nearly full, and that it is so no more; None: nothing holds them."""
    said = notices.read()
    for user, use in uses.items():
        percent = 0 if use is None else min(100, 100 * use.used // use.limit)
        if percent >= FULL:
            notices.say(user, KIND, ABOUT, Facts(percent=percent))
        elif percent < ROOM and said.find(user, KIND, ABOUT) is not None:
            notices.withdraw(user, KIND, ABOUT)
