"""Notices drift on a server within seconds and puts it back.

Files are watched by inotify; iptables, nftables and the bridge are looked at. The service
`lxc-gpu-watch` runs this. It applies the published view and fetches nothing, so it waits for no
round and no other machine. Without it, the timer's rounds put the same drift back, later.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Sequence
from pathlib import Path

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

from reconciler.container.running import running_containers
from reconciler.host import places
from reconciler.host.config import read_server_config
from reconciler.host.published import published_view
from reconciler.host.suspension import suspension
from reconciler.kinds.accounts.account_files import GROUP, PASSWD, SHADOW
from reconciler.kinds.accounts.subids import SUBGID, SUBUID
from reconciler.kinds.accounts.usernet import USERNET
from reconciler.kinds.traffic.identity import IdentityKind
from reconciler.plan import AnyKind, Planned, plan
from reconciler.rounds.drift import Sparing
from reconciler.rounds.order import KINDS
from reconciler.rounds.round import Scope, run_round
from state.errors import LxcGpuError, os_error
from state.view import View
from state.wire.messages import NOBODY

LOOK_EVERY = 5.0
"""Seconds between two looks at what isn't a file."""
SETTLE = 0.3
"""Seconds in which several changes of files count as one."""
LONGEST_PAUSE = 300.0
"""Seconds, at most, until a failed attempt is repeated."""
FILES = frozenset({PASSWD, SHADOW, GROUP, SUBUID, SUBGID, USERNET})
FOLDERS = (*sorted({file.parent for file in FILES}), places.AUTHORIZED_KEYS)
_IN_FILES = ("authorized_keys", "register_keys", "connection", "account", "subids", "usernet")
_ELSEWHERE = ("network", "bridge_port", "port_map", "forward", "identity", "cpu_set", "lxcfs")
WATCHED: tuple[AnyKind, ...] = tuple(k for k in KINDS if k.name in (*_IN_FILES, *_ELSEWHERE))
"""Kinds that are put back at once. Mounts, quotas and containers' files are left to rounds: they
are slow to read, or on disks that may hang."""
ALL_THE_TIME: tuple[AnyKind, ...] = tuple(k for k in KINDS if k.name in _ELSEWHERE)
"""Those of them that aren't in files."""


class _Changes(FileSystemEventHandler):
    """Remembers that a watched file changed."""

    def __init__(self) -> None:
        self.seen = threading.Event()

    def on_any_event(self, event: FileSystemEvent) -> None:
        """Called by watchdog, in a thread of its own, for every event in the folders."""
        if event.event_type in ("opened", "closed_no_write"):
            return
        paths = {Path(str(event.src_path)), Path(str(event.dest_path or event.src_path))}
        if paths & FILES or places.AUTHORIZED_KEYS in {path.parent for path in paths}:
            self.seen.set()


def watch() -> None:
    """Look for drift and put it back, forever."""
    changes, observer, watcher = _Changes(), Observer(), Watcher()
    for folder in FOLDERS:
        observer.schedule(changes, str(folder))
    observer.start()
    files_changed = True
    while True:
        if watcher.look(thorough=files_changed):
            changes.seen.set()  # it may have drifted again meanwhile
        files_changed = changes.seen.wait(LOOK_EVERY)
        if files_changed:
            time.sleep(SETTLE)
            changes.seen.clear()


class Watcher:
    """Compares the server with the published view, again and again."""

    def __init__(self) -> None:
        self._judge = Judge()
        self._journal = Sparing()

    def look(self, *, thorough: bool) -> bool:
        """Look, and put back what differs. Returns whether anything was changed.

        Unless `thorough`, files are looked at only if something else differs.
        """
        self._journal.catch_up()
        try:
            view = published_view()
            if view is None or suspension() is not None:
                return False
            return self._look(view, thorough=thorough or self._judge.is_patient)
        except (LxcGpuError, OSError) as error:
            if isinstance(error, OSError):
                error = os_error(error)
            self._journal.event(
                "failed", kind="watch", name=NOBODY, code=error.code, message=error.message
            )
            return False

    def _look(self, view: View, *, thorough: bool) -> bool:
        if not thorough and not plan(ALL_THE_TIME, view):
            return False
        lines = [line for line in plan(WATCHED, view) if line.failure is None]
        rounds_own = _being_stopped(view, lines)
        differing = [line for line in lines if line not in rounds_own]
        due = self._judge.due(differing, time.monotonic())
        if not due:
            return False
        waiting = [line for line in lines if line not in due]
        leave = {k.name: {line.name for line in waiting if line.kind == k.name} for k in WATCHED}
        scope = Scope(WATCHED, whole=False, fetch=False, leave=leave)
        report = run_round(read_server_config(), scope, lambda _: None, self._journal.event)
        self._judge.tried(due, report.changes, time.monotonic())
        return bool(report.changes)


def _being_stopped(view: View, lines: Sequence[Planned]) -> frozenset[Planned]:
    """Identities of former residents whose container still runs: a round stops it first."""
    left = {e for e in lines if e.kind == IdentityKind.name and e.name not in view.residents}
    running = running_containers() if left else frozenset()
    return frozenset(each for each in left if each.name in running)


class Judge:
    """Decides which drift is worth an attempt to put it back.

    What was put back and differs again counts as new. What could not be put back is tried again
    after pauses that grow.
    """

    def __init__(self) -> None:
        self._pauses: dict[Planned, tuple[float, float]] = {}
        """When the next attempt is due, and the pause before it in seconds."""

    @property
    def is_patient(self) -> bool:
        """Whether anything waits for another attempt."""
        return bool(self._pauses)

    def due(self, differing: Sequence[Planned], now: float) -> frozenset[Planned]:
        """Of everything that differs, what is worth an attempt at the time `now` in seconds."""
        self._pauses = {d: pause for d, pause in self._pauses.items() if d in differing}
        return frozenset(d for d in differing if d not in self._pauses or self._pauses[d][0] <= now)

    def tried(self, due: Collection[Planned], changes: Collection[str], now: float) -> None:
        """Note that of what was `due`, only `changes` were made."""
        for each in due:
            _, pause = self._pauses.pop(each, (0.0, LOOK_EVERY / 2))
            if f"{each.kind}: {each.words}" not in changes:
                pause = min(2 * pause, LONGEST_PAUSE)
                self._pauses[each] = (now + pause, pause)
