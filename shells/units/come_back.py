"""Starts the containers that ran before a boot, a few at a time, as `start` does.

Which ones ran is noted in /var/lib/lxc-gpu/running: a container's unit makes a file there before
it starts, and removes it when it is shut down from inside (setup/units/lxc-gpu@.service). Each is
started by a forked child of this program, so one that fails or hangs stops no other. This needs the
published view, but neither Git nor the directory nor the web page.
"""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module

from reconciler.children.forked import STDERR, Child, readable
from reconciler.host import places
from reconciler.host.journal import event
from reconciler.host.published import current_view
from reconciler.load import idleness, last_use
from reconciler.requests.needed import remember
from reconciler.requests.power import LATER, note_down, start
from reconciler.requests.unit import power_of
from state.errors import LxcGpuError, mistake, os_error

AT_ONCE = 4
"""How many containers start at the same time: a boot has other work, too."""
LONG = 300.0
"""Seconds that each start may take: a cold disk reads everything at once, and nobody is waiting."""
PATIENCE = 1.0
"""Seconds that reading ahead what each start reads may take."""
_SAID = 1
"""The status of a child that has said why its container didn't start."""


def main(argv: Sequence[str]) -> int:
    """Start the containers. The exit status: 1 if one failed."""
    ran = sorted(path.name for path in places.RUNNING.glob("*"))
    if not ran:
        return 0
    try:
        view = current_view()
    except LxcGpuError as error:
        event("come-back-failed", code=error.code, why=error.message)
        return 1
    noted = {path.name for path in places.DOWN.glob("*")}
    wanted = [name for name in ran if name in view.residents and (view.come_back or name in noted)]
    for name in ran:
        if name not in wanted and not power_of(name).running:
            (places.RUNNING / name).unlink(missing_ok=True)
            event("stays-down", user=name)
    if view.closed_by(time.time()) is not None:
        for name in wanted:
            note_down(name)
        print(f"{len(wanted)} containers come back after an announcement", file=sys.stderr)
        return 0
    failed = bring_back(wanted)
    print(f"{len(wanted) - len(failed)} of {len(wanted)} containers came back", file=sys.stderr)
    return 1 if failed else 0


def bring_back(wanted: Sequence[str]) -> list[str]:
    """Start these containers, a few at a time. Return those that failed."""
    for module in LATER:
        import_module(module)
    gc.freeze()  # children don't copy these pages only to look at them
    left, failed, under_way = list(wanted), list[str](), dict[int, tuple[str, Child]]()
    while left or under_way:
        while left and len(under_way) < AT_ONCE:
            user = left.pop(0)
            remember(PATIENCE)
            try:
                child = Child(partial(_in_child, user), [STDERR])
            except OSError as error:  # no room for it
                failed.append(user)
                event("come-back-failed", user=user, code="system", why=str(error))
            else:
                under_way[child.fileno()] = (user, child)
        for descriptor in readable(under_way, 60.0 if under_way else 0.0):
            user, child = under_way.pop(descriptor)
            if child.has_ended() and child.status != 0:
                failed.append(user)
                if child.status != _SAID:
                    why = f"its start ended with status {child.status}"
                    event("come-back-failed", user=user, code="helper-died", why=why)
    return failed


def _in_child(user: str) -> None:
    """What the root helper does at a request of its user."""
    failed = came_back(user, lambda: start(user, lambda _: None, patience=LONG).was_running)
    os._exit(_SAID if failed else 0)


def came_back(user: str, begin: Callable[[], bool], left_alone: Sequence[str] = ()) -> str:
    """Note how a start went. Return the error's code if it failed; empty if it didn't.

    `begin` starts it, and returns whether it ran already. Failures whose codes are `left_alone`
    aren't noted.
    """
    try:
        if not begin():
            idleness.note_came_back(user, last_use.sessions(user))
        (places.DOWN / user).unlink(missing_ok=True)
    except Exception as error:
        failed = _in_words(error)
        if failed.code not in left_alone:
            event("come-back-failed", user=user, code=failed.code, why=str(failed))
        return failed.code
    event("came-back", user=user)
    return ""


def _in_words(error: Exception) -> LxcGpuError:
    if isinstance(error, LxcGpuError):
        return error
    if isinstance(error, OSError):
        return os_error(error)
    bug = mistake(error)
    event("crashed", kind="come-back", what=bug.details)
    return bug
