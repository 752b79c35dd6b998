"""Starts the containers that ran before a boot, a few at a time, as `start` does.

Which ones ran is noted in /var/lib/lxc-gpu/running: a container's unit makes a file there when it
is up, and removes it when the container was shut down (setup/units/lxc-gpu@.service). Each start is
a request to the root helper, so one that fails or hangs stops no other. This needs the published
view, but neither Git nor the directory nor the web page.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from reconciler.host import places
from reconciler.host.journal import event
from reconciler.host.published import current_view
from reconciler.load import idleness, last_use
from reconciler.requests.power import note_down, power_of
from shells.helper.client import ask, ask_until_free
from shells.helper.request import Request
from shells.usage import Verb
from state.errors import LxcGpuError
from state.wire.messages import Answer

AT_ONCE = 4
"""How many containers start at the same time: a boot has other work, too."""


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


def bring_back(wanted: Sequence[str], patience: float | None = None) -> dict[str, str]:
    """Start these containers, a few at a time. Return those that failed, with the error's code.

    A container with other work under way for longer than `patience` seconds is `busy`.
    """
    with ThreadPoolExecutor(AT_ONCE) as pool:
        codes = pool.map(lambda user: _start(user, patience), wanted)
        return {user: code for user, code in zip(wanted, codes, strict=True) if code}


def _start(user: str, patience: float | None) -> str:
    """Start a container. Return the error's code if it failed; empty if it didn't."""
    try:
        if patience is None:
            answer = ask(Request(Verb.START, user, {"quick": ""}), lambda _: None)
        else:
            request = Request(Verb.START, user, {"quick": "", "announced": ""})
            answer = ask_until_free(request, lambda _: None, patience)
        if isinstance(answer, Answer) and not answer.facts["was_running"]:
            idleness.note_came_back(user, last_use.sessions(user))
    except (LxcGpuError, OSError, ValueError) as error:
        code = error.code if isinstance(error, LxcGpuError) else "system"
        if code != "busy" or patience is None:
            event("come-back-failed", user=user, code=code, why=str(error))
        return code
    (places.DOWN / user).unlink(missing_ok=True)
    event("came-back", user=user)
    return ""
