"""Machines on which nothing happens but what is measured.

Rounds begin by the timer, by the watcher, and by nudges of the web page, which come by ssh and go
on in the root helper when the page is gone. All that begins rounds is stopped, and those that run
are waited for. The lab is the bench's own and is removed at the end, so they stay stopped.
"""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from laboratory.hosts import Host, Lab
from laboratory.wiring import GPU_SERVERS

from state.errors import LxcGpuError

STARTERS = (
    "lxc-gpu-reconcile.timer lxc-gpu-watch.service lxc-gpu-idleness.timer "
    "lxc-gpu-reservations.timer"
)
PAGE = "lxc-gpu-web.service"
PAGE_HELD = "lxc-gpu-web.socket"
"""Stopped, it stops the page, which a request would start again otherwise."""
LOOKS = 5
"""A machine is quiet once so many looks, one after the other, see nothing going on."""
LONGEST = 300
"""Seconds that rounds may take to end, and the page to begin."""
UNTIL_QUIET = f"""
going_on() {{
    pgrep -f '^sshd: .*\\[(net|accepted)\\]' ||
        grep -qsz '^SSH_ORIGINAL_COMMAND=\\(reconcile\\|news\\)$' /proc/[0-9]*/environ ||
        systemctl list-units --plain --no-legend --state=active,activating,deactivating,reloading \\
            'lxc-gpu-root@*' lxc-gpu-reconcile.service | grep . ||
        pgrep -f '[l]xc-gpu[ /](reconcile|check)'
}} >/dev/null
looks=0
until [ $looks = {LOOKS} ]; do
    looks=$((looks + 1))
    if going_on; then looks=0; fi
    sleep 0.1
done
"""
"""In the order of a nudge: somebody logs in, asks for a round, the root helper does it, it runs."""
MARK = "/run/bench-begun"
STATUS = "/var/lib/lxc-gpu/status.json"


def settle(lab: Lab) -> None:
    """Stop all that begins rounds, the page included, and wait until none runs."""
    lab.host("iam").run(["systemctl", "stop", PAGE_HELD])
    for server in _servers(lab):
        server.sh(f"systemctl stop {STARTERS}")
    until_quiet(lab)


def until_quiet(lab: Lab) -> None:
    """Wait until no round runs on any server, nor anything else that somebody asked for."""
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda server: server.sh(UNTIL_QUIET, timeout=LONGEST), _servers(lab)))


@contextmanager
def page_running(lab: Lab) -> Iterator[None]:
    """The page for as long as the block; what it begins with, a nudge of each server, is over."""
    for server in _servers(lab):
        server.run(["touch", MARK])
    lab.host("iam").run(["systemctl", "start", PAGE])
    try:
        for server in _servers(lab):
            server.sh(f"until [ {STATUS} -nt {MARK} ]; do sleep 0.1; done", timeout=LONGEST)
        _until_it_answers(lab.web_url)
        until_quiet(lab)
        yield
    finally:
        settle(lab)


def _until_it_answers(url: str) -> None:
    deadline = time.monotonic() + LONGEST
    while True:
        try:
            with urllib.request.urlopen(url, timeout=10):
                return
        except OSError as error:
            if time.monotonic() > deadline:
                raise LxcGpuError("bench-page", f"The page doesn't answer: {error}.") from error
            time.sleep(0.1)


def _servers(lab: Lab) -> list[Host]:
    return [lab.host(name) for name in GPU_SERVERS]
