"""Tells people that their container's disk is nearly full.

Only where the kernel counts and enforces that (`reconciler.kinds.containers.disk_quota`):
elsewhere du(1) would have to read everything.
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
"""Percent at which it is said, and below which it is over: going up and down between them causes no
further notices."""
KIND, ABOUT = NoticeKind.DISK_NEARLY_FULL, "disk"


def look(view: View) -> None:
    """Check everybody's use. Errors go to the journal: they must not stop a round."""
    try:
        if disk_quota.available(view):
            say({user: disk_quota.use_of(view, user) for user in view.residents})
    except (LxcGpuError, OSError) as error:
        code = error.code if isinstance(error, LxcGpuError) else "system"
        event("notices-failed", code=code, why=str(error))


def say(uses: Mapping[str, QuotaUse | None]) -> None:
    """Post or withdraw a notice for each user; None: no limit is enforced."""
    said = notices.read()
    for user, use in uses.items():
        percent = 0 if use is None else min(100, 100 * use.used // use.limit)
        if percent >= FULL:
            notices.say(user, KIND, ABOUT, Facts(percent=percent))
        elif percent < ROOM and said.find(user, KIND, ABOUT) is not None:
            notices.withdraw(user, KIND, ABOUT)
