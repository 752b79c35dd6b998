"""Looks once which containers are in use: lxc-gpu-idleness.service runs this, as root.

Containers that the state wants stopped by now are stopped by the root helper, which looks again.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from reconciler.host import journal, places
from reconciler.host.boot import boot_clock, boot_id
from reconciler.host.published import published_view
from reconciler.load import idle_stop, idleness, last_use
from shells.helper.client import ask
from shells.helper.request import Request
from shells.usage import Verb
from state.errors import LxcGpuError
from state.view import View


def main(argv: Sequence[str]) -> int:
    """Look, keep the record, and tell users. The exit status."""
    view = published_view()
    if view is None:  # before the first round there are no containers
        return 0
    try:
        due, ended = _look(view)
    except (LxcGpuError, OSError) as error:
        return _failed(error)
    for user in due:
        try:
            ask(Request(Verb.STOP, user, {"idle": ""}), lambda _: None)
        except (LxcGpuError, OSError, ValueError) as error:
            if not (isinstance(error, LxcGpuError) and error.code == "in-use"):
                ended = _failed(error, user=user)
    return ended


def _look(view: View) -> tuple[list[str], int]:
    before, boot, now = idleness.read_record(), boot_id(), boot_clock()
    ran = [path.name for path in places.RUNNING.glob("*")]
    record, ended = idleness.judge(before, boot, now, last_use.seen(view), ran), 0
    due: list[str] = []
    try:
        record, due = idle_stop.tell(view, before, record, time.time())
    except (LxcGpuError, OSError, ValueError) as error:  # the count continues
        ended = _failed(error)
    idleness.write_record(record)
    return due, ended


def _failed(error: Exception, **fields: str) -> int:
    code = error.code if isinstance(error, LxcGpuError) else "system"
    journal.event("idleness-failed", **fields, code=code, why=str(error))
    return 1
