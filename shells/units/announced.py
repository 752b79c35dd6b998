"""Shuts containers down while an announcement says so, and starts them again afterwards.

lxc-gpu-announced.service runs this each minute, as root. It looks only at the present: whether an
announcement stops containers, which containers ran, and which are down for it. So the server
needn't have been up at the beginning or end, and a changed or removed announcement takes effect at
once. After the clock was moved, no shutdown begins for a while.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from reconciler.host import places
from reconciler.host.published import published_view
from shells.units import clock
from state import files
from state.errors import LxcGpuError
from state.view import View

AT_ONCE = 8
"""How many containers are shut down at the same time."""
PATIENCE = 10.0
"""Seconds to wait for other work on a container to end, e.g. a round's. Otherwise it is left for
the next minute."""
PAUSE = 600.0
"""Seconds after which a container that failed to start is tried again."""


def main(argv: Sequence[str]) -> int:
    """Shut containers down, or start them again. The exit status: 1 if something failed."""
    view = published_view()
    if view is None:
        return 0
    steady = clock.is_steady()  # each time, because the next look compares the clock with this one
    if view.closed_by(time.time()) is not None:
        if steady:
            return _shut_down()
        print(
            "containers are shut down once the clock has been steady for 10 minutes",
            file=sys.stderr,
        )
        return 0
    if not any(places.DOWN.glob("*")):
        return 0  # the usual case: the modules for the work aren't even loaded
    return _bring_back(view)


def _shut_down() -> int:
    from concurrent.futures import ThreadPoolExecutor

    from reconciler.requests.power import note_down

    ran = sorted(path.name for path in places.RUNNING.glob("*"))
    # noted before the shutdown, so that they come back even if this program is killed
    for user in ran:
        note_down(user)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return int(not all(list(pool.map(_stop, ran))))


def _stop(user: str) -> bool:
    """Shut a container down; False if it failed. A busy one is left for the next minute."""
    from reconciler.host.journal import event
    from reconciler.requests.unit import power_of
    from shells.helper.client import ask_until_free
    from shells.helper.request import Request
    from shells.usage import Verb

    view = published_view()
    closed = None if view is None else view.closed_by(time.time())
    if closed is None:  # the note was removed meanwhile
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
    """Start the containers that are down for an announcement that is over.

    Those of users who ran `stop` meanwhile, or who left, are not started.
    """
    from concurrent.futures import ThreadPoolExecutor

    from shells.units.come_back import AT_ONCE

    down = [path.name for path in places.DOWN.glob("*") if _due(path.name)]
    wanted = []
    for user in sorted(down):
        if user in view.residents and (places.RUNNING / user).exists():
            wanted.append(user)
        else:
            (places.DOWN / user).unlink(missing_ok=True)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        codes = zip(wanted, list(pool.map(_start, wanted)), strict=True)
    failed = [user for user, code in codes if code not in ("", "busy")]
    for user in failed:
        files.write_file(places.DOWN / user, "failed\n")
    return int(bool(failed))


def _start(user: str) -> str:
    """Start a container. Return the error's code if it failed; empty if it didn't."""
    from shells.helper.client import ask_until_free
    from shells.helper.request import Request
    from shells.units.come_back import came_back
    from shells.usage import Verb
    from state.wire.messages import Answer

    def begin() -> bool:
        request = Request(Verb.START, user, {"quick": "", "announced": ""})
        answer = ask_until_free(request, lambda _: None, PATIENCE)
        return not isinstance(answer, Answer) or bool(answer.facts["was_running"])

    return came_back(user, begin, left_alone=["busy"])


def _due(user: str) -> bool:
    """Whether to try now: a start that failed is tried again only after a pause."""
    try:
        noted = (places.DOWN / user).stat()
    except FileNotFoundError:  # it was started or purged just now
        return False
    return noted.st_size == 0 or abs(time.time() - noted.st_mtime) > PAUSE
