"""Containers are down while an announcement says so, and come back after it.

lxc-gpu-announced.service runs this each minute, as root. It goes by what is so now: whether an
announcement stops containers, which of them ran, which of those are down for it. So it makes no
difference whether the server, or its clock, saw the beginning or the end, and an announcement that
is changed or removed is over. A clock that was just moved begins none.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from reconciler.host import places
from reconciler.host.published import published_view
from shells.units import clock
from state.view import View

AT_ONCE = 8
"""Containers that are shut down at the same time."""
PATIENCE = 10.0
"""Seconds for other work on a container to end, as a round's: else it is for the next minute."""
PAUSE = 600.0
"""Seconds after which one that failed to come back is tried again."""


def main(argv: Sequence[str]) -> int:
    """Shut down, or bring back; the exit status, 1 if something failed."""
    view = published_view()
    if view is None:
        return 0
    stands = clock.stands()  # each time: what it is compared with may be needed at the next
    if view.closed_by(time.time()) is not None:
        if stands:
            return _shut_down()
        print("containers are shut down once the clock has stood for a while", file=sys.stderr)
        return 0
    if not any(places.DOWN.glob("*")):
        return 0  # nearly always: what there could be to do is not even loaded
    return _bring_back(view)


def _shut_down() -> int:
    from concurrent.futures import ThreadPoolExecutor

    from reconciler.requests.power import note_down

    ran = sorted(path.name for path in places.RUNNING.glob("*"))
    for user in ran:  # before: whatever ends us, they come back
        note_down(user)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return int(not all(list(pool.map(_stop, ran))))


def _stop(user: str) -> bool:
    """False if it failed. One at which other work is under way is for the next minute."""
    from reconciler.host.journal import event
    from reconciler.requests.power import power_of
    from shells.helper.client import ask_until_free
    from shells.helper.request import Request
    from shells.usage import Verb
    from state.errors import LxcGpuError

    view = published_view()
    closed = None if view is None else view.closed_by(time.time())
    if closed is None:  # it was taken away meanwhile
        return True
    try:
        if power_of(user).running:
            request = Request(Verb.STOP, user, {"announced": ""})
            ask_until_free(request, lambda _: None, PATIENCE)
            event("stopped-by-announcement", user=user, announcement=closed.name)
    except (LxcGpuError, OSError, ValueError) as error:
        code = error.code if isinstance(error, LxcGpuError) else "system"
        if code == "busy":
            return True
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
    failed = [user for user, code in bring_back(wanted, PATIENCE).items() if code != "busy"]
    for user in failed:
        files.write_file(places.DOWN / user, "failed\n")
    return int(bool(failed))


def _due(user: str) -> bool:
    """Whether to try now: not again and again where it failed."""
    try:
        noted = (places.DOWN / user).stat()
    except FileNotFoundError:  # it is up, or purged, just now
        return False
    return noted.st_size == 0 or abs(time.time() - noted.st_mtime) > PAUSE
