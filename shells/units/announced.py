"""Containers are down while an announcement says so, and come back after it.

lxc-gpu-announced.service runs this each minute, as root. It goes by what is so now: whether an
announcement stops containers, which of them ran, which of those are down for it. So it makes no
difference whether the server, or its clock, saw the beginning or the end, and an announcement that
is changed or removed is over.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from reconciler.host import places
from reconciler.host.published import published_view
from state.view import View

AT_ONCE = 8
"""Containers that are shut down at the same time."""
PAUSE = 600.0
"""Seconds after which one that failed to come back is tried again."""


def main(argv: Sequence[str]) -> int:
    """Shut down, or bring back; the exit status, 1 if something failed."""
    view = published_view()
    if view is None:
        return 0
    closed = view.closed_by(time.time())
    if closed is None and not any(places.DOWN.glob("*")):
        return 0  # nearly always: what there could be to do is not even loaded
    return _shut_down(closed.name) if closed is not None else _bring_back(view)


def _shut_down(name: str) -> int:
    from concurrent.futures import ThreadPoolExecutor

    from shells.units.come_back import note_down

    ran = sorted(path.name for path in places.RUNNING.glob("*"))
    for user in ran:  # before: whatever ends us, they come back
        note_down(user)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return int(not all(list(pool.map(lambda user: _stop(user, name), ran))))


def _stop(user: str, name: str) -> bool:
    from reconciler.host.journal import event
    from reconciler.requests.power import power_of
    from shells.helper.client import ask
    from shells.helper.request import Request
    from shells.usage import Verb
    from state.errors import LxcGpuError

    try:
        if power_of(user).running:
            ask(Request(Verb.STOP, user, {"announced": ""}), lambda _: None)
            event("stopped-by-announcement", user=user, announcement=name)
    except (LxcGpuError, OSError, ValueError) as error:  # other work on it may be under way
        code = error.code if isinstance(error, LxcGpuError) else "system"
        event("stop-failed", user=user, code=code, why=str(error))
        return False
    return True


def _bring_back(view: View) -> int:
    """Start those that are down for an announcement that is over.

    Whoever ran `stop` meanwhile, or left, is not started.
    """
    from shells.units.come_back import bring_back
    from state import files

    down = [path.name for path in places.DOWN.glob("*") if _due(path.name)]
    wanted = []
    for user in sorted(down):
        if user in view.residents and (places.RUNNING / user).exists():
            wanted.append(user)
        else:
            (places.DOWN / user).unlink(missing_ok=True)
    failed = bring_back(wanted)
    for user in failed:
        files.write_file(places.DOWN / user, "failed\n")
    return int(bool(failed))


def _due(user: str) -> bool:
    """Whether to try now: not again and again where it failed."""
    noted = (places.DOWN / user).stat()
    return noted.st_size == 0 or abs(time.time() - noted.st_mtime) > PAUSE
