"""Notices drift on a server within seconds: files by inotify, iptables, nftables and the bridge by
looking.

The service `lxc-gpu-watch` runs this. It changes nothing itself: when something differs from the
published view, it has a round started. Without it, the timer's rounds heal the same, later.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

from reconciler.host import places
from reconciler.host.published import published_view
from reconciler.host.suspension import suspension
from reconciler.kinds.account import GROUP, PASSWD, SHADOW
from reconciler.kinds.forward import ForwardKind
from reconciler.kinds.hairpin import HairpinKind
from reconciler.kinds.identity import IdentityKind
from reconciler.kinds.network import NetworkKind
from reconciler.kinds.port_map import PortMapKind
from reconciler.kinds.subids import SUBGID, SUBUID
from reconciler.kinds.usernet import USERNET
from reconciler.plan import AnyKind, Planned, plan
from reconciler.rounds.order import KINDS
from state import command

LOOK_EVERY = 5.0
"""Seconds between two looks at what is no file."""
SETTLE = 0.3
"""Seconds in which several changes of files count as one."""
SAME_AGAIN = 300.0
"""Seconds before a round is started for a difference that the last one didn't remove."""
FILES = frozenset({PASSWD, SHADOW, GROUP, SUBUID, SUBGID, USERNET})
FOLDERS = (*sorted({file.parent for file in FILES}), places.AUTHORIZED_KEYS)
IN_FILES: tuple[AnyKind, ...] = tuple(kind for kind in KINDS if kind.name != "container")
"""Looked at when a file changed. Containers' files are the rounds' business: slower to read."""
NOT_IN_FILES: tuple[AnyKind, ...] = (
    NetworkKind(),
    IdentityKind(),
    HairpinKind(),
    PortMapKind(),
    ForwardKind(),
)
"""Looked at all the time."""


class _Changes(FileSystemEventHandler):
    """Remembers that a watched file changed."""

    def __init__(self) -> None:
        self.seen = threading.Event()

    def on_any_event(self, event: FileSystemEvent) -> None:
        """Called by watchdog, in a thread of its own, for everything in the folders."""
        if event.event_type in ("opened", "closed_no_write"):
            return
        paths = {Path(str(event.src_path)), Path(str(event.dest_path or event.src_path))}
        if paths & FILES or places.AUTHORIZED_KEYS in {path.parent for path in paths}:
            self.seen.set()


def watch(start_round: Callable[[], None]) -> None:
    """Look for drift, for ever; `start_round` is called when there is some."""
    changes, observer = _Changes(), Observer()
    for folder in FOLDERS:
        observer.schedule(changes, str(folder))
    observer.start()
    judge = Judge()
    while True:
        if changes.seen.wait(LOOK_EVERY):
            time.sleep(SETTLE)
            changes.seen.clear()
            kinds = IN_FILES
        else:
            kinds = NOT_IN_FILES
        if judge.wants_round(drift(kinds), time.monotonic()):
            start_round()


def drift(kinds: Sequence[AnyKind]) -> tuple[Planned, ...]:
    """How the server differs from the published view, in these kinds; nothing if suspended."""
    view = published_view()
    return () if view is None or suspension() is not None else plan(kinds, view)


class Judge:
    """Decides whether a difference is worth a round: not the same one again and again."""

    def __init__(self) -> None:
        self._last: frozenset[Planned] = frozenset()
        self._when = float("-inf")

    def wants_round(self, differing: Sequence[Planned], now: float) -> bool:
        """Whether to start a round for `differing`, at the time `now` in seconds."""
        seen = frozenset(differing)
        if not seen or (seen == self._last and now - self._when < SAME_AGAIN):
            return False
        self._last, self._when = seen, now
        return True


def start_round() -> None:
    """Run the round of lxc-gpu-reconcile.service, and wait for it; its failures are its own."""
    command.run(["systemctl", "start", "lxc-gpu-reconcile.service"], check=False, timeout=3600)
