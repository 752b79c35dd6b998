"""Nudges all servers in parallel after a save, and again from time to time.

Each server has a lane for a few parallel nudges: a removed key doesn't wait for a round that
unpacks somebody's container. If the lane is full, a single nudge follows for all that were wanted
meanwhile. A dead server holds up only its own lane.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from threading import Event, Lock

from state.errors import LxcGpuError
from state.wire.messages import Message, Progress, Refusal, Report
from state.words import plural
from webui import background, events
from webui.events import Code
from webui.servers.board import Board, NudgeOutcome, Phase
from webui.servers.contact import Target

log = logging.getLogger(__name__)

Contact = Callable[[Target], Iterator[Message]]
Includes = Callable[[str, str], bool]
"""Whether the first revision is the second one or a later one."""


def outcome_of(server: str, message: Message, wanted: str, includes: Includes) -> NudgeOutcome:
    """What `message` means for a save that waits for revision `wanted` on `server`."""
    if isinstance(message, Progress):
        return NudgeOutcome(server, Phase.CONTACTING, message.text)
    if isinstance(message, Report):
        return _of_report(server, message, wanted, includes)
    if isinstance(message, Refusal):
        return NudgeOutcome(server, Phase.PROBLEMS, message.message, message.hint)
    return NudgeOutcome(server, Phase.PROBLEMS, "It answered, but not with a report.")


def _of_report(server: str, report: Report, wanted: str, includes: Includes) -> NudgeOutcome:
    at = report.revision[:7] or "no revision"
    if report.suspended:
        text = f"is suspended at {at}: {report.suspended}"
        return NudgeOutcome(server, Phase.SUSPENDED, text, _SUSPENDED, report.failures, report)
    if report.refused:
        text = f"stays at {at}: {report.refused}"
        return NudgeOutcome(server, Phase.PROBLEMS, text, _SYSADMIN, report.failures, report)
    if wanted and not includes(report.revision, wanted):
        text = f"is still at {at} and has not seen the newest change"
        return NudgeOutcome(server, Phase.PROBLEMS, text, _CATCHES_UP, report.failures, report)
    if report.failures:
        count = len(report.failures)
        text = f"{plural(count, 'problem')} at revision {at}"
        return NudgeOutcome(server, Phase.PROBLEMS, text, _SYSADMIN, report.failures, report)
    text = f"converged at revision {at} in {report.seconds:.1f}\N{NO-BREAK SPACE}s"
    return NudgeOutcome(server, Phase.CONVERGED, text, report=report)


_SUSPENDED = "A sysadmin suspended it. `lxc-gpu resume` on that server ends this."
_SYSADMIN = "The next round tries again automatically. If it lasts, tell your sysadmin."
_CATCHES_UP = "It will catch up automatically within minutes."


@dataclass(frozen=True)
class WaitingSave:
    """A save that waits for the result of a nudge."""

    token: str
    revision: str


AT_ONCE = 3
"""Parallel nudges of one server, at most. Its rounds take turns."""


class Lane:
    """One server's nudges."""

    def __init__(self, server: str, run: Callable[[str, frozenset[WaitingSave]], None]) -> None:
        self._server = server
        self._run = run
        self._lock = Lock()
        self._under_way = 0
        self._wanted = False
        self._saves: set[WaitingSave] = set()

    def want(self, save: WaitingSave | None) -> None:
        """Note that a nudge is wanted. `begin` starts it."""
        with self._lock:
            self._wanted = True
            if save is not None:
                self._saves.add(save)

    def begin(self) -> None:
        """Start the nudge that is wanted, if any. In a full lane, it starts when there is room.

        LxcGpuError if it can't start now; it stays wanted.
        """
        with self._lock:
            if not self._wanted or self._under_way == AT_ONCE:
                return
            self._under_way += 1
        try:
            background.start(f"nudge {self._server}", self._drive)
        except LxcGpuError:
            self._give_place_back()
            raise

    def _drive(self) -> None:
        try:
            while (saves := self._taken()) is not None:
                self._run(self._server, saves)
        except BaseException:
            self._give_place_back()
            raise

    def _taken(self) -> frozenset[WaitingSave] | None:
        """The saves of the next nudge. None if none is wanted; then the place is free again."""
        with self._lock:
            if not self._wanted:
                self._under_way -= 1
                return None
            saves = frozenset(self._saves)
            self._saves.clear()
            self._wanted = False
            return saves

    def _give_place_back(self) -> None:
        with self._lock:
            self._under_way -= 1


class Nudger:
    """Nudges the state's servers, and keeps the board up to date."""

    def __init__(
        self,
        targets: Callable[[], Mapping[str, Target]],
        contact: Contact,
        board: Board,
        includes: Includes,
    ) -> None:
        self._targets = targets
        self._contact = contact
        self._board = board
        self._includes = includes
        self._lanes: dict[str, Lane] = {}
        self._lock = Lock()
        self._stop = Event()
        self._nudged_for = ""
        self._refreshed: float | None = None

    def saved(self, user: str, revision: str) -> str:
        """Nudge every server for a save; the token under which the board shows its progress."""
        self._nudged_for = revision
        servers = self._targets()
        token = self._board.open(user, revision, sorted(servers))
        for server in servers:
            self._lane(server).want(WaitingSave(token, revision))
        with suppress(LxcGpuError):  # the change is saved; the next look starts what is left
            self._begin()
        return token

    def watch(self, newest: Callable[[], str], look_every: float, refresh_every: float) -> None:
        """Nudge all servers now, whenever the newest revision changes, and every `refresh_every`.

        So a sysadmin's push reaches the servers as fast as a save does. Runs in the background
        until `stop`. Both times are in seconds.
        """
        background.every(look_every, "watch", lambda: self._look(newest, refresh_every), self._stop)

    def _look(self, newest: Callable[[], str], refresh_every: float) -> None:
        revision, now = newest(), time.monotonic()
        due = self._refreshed is None or now - self._refreshed >= refresh_every
        if due or revision != self._nudged_for:
            for server in self._targets():
                self._lane(server).want(None)
            self._nudged_for, self._refreshed = revision, now
        self._begin()

    def _begin(self) -> None:
        """Start all nudges that are wanted. LxcGpuError, at the end, if one couldn't start."""
        with self._lock:
            lanes = list(self._lanes.values())
        failed = None
        for lane in lanes:
            try:
                lane.begin()
            except LxcGpuError as error:
                failed = error
        if failed is not None:
            raise failed

    def stop(self) -> None:
        """End `watch`."""
        self._stop.set()

    def _lane(self, server: str) -> Lane:
        with self._lock:
            return self._lanes.setdefault(server, Lane(server, self._round))

    def _round(self, server: str, saves: frozenset[WaitingSave]) -> None:
        """One nudge. Every error becomes an outcome, so that the lane goes on."""
        try:
            target = self._targets().get(server)
            if target is None:
                self._end(server, saves, "is no longer part of the fleet", "")
                return
            self._post(server, saves, Progress("being contacted"))
            for message in self._contact(target):
                self._post(server, saves, message)
        except LxcGpuError as error:
            said = {"code": error.code, "details": error.details}
            events.warning(log, Code.NUDGE_FAILED, server=server, **said)
            self._end(server, saves, error.message, error.hint)
        except Exception:
            events.crashed(log, f"nudge of {server}")
            self._end(server, saves, "The web page made a mistake here.", _SYSADMIN)

    def _post(self, server: str, saves: frozenset[WaitingSave], message: Message) -> None:
        if not saves:
            self._board.post(outcome_of(server, message, "", self._includes), ())
        for save in saves:
            outcome = outcome_of(server, message, save.revision, self._includes)
            self._board.post(outcome, (save.token,))

    def _end(self, server: str, saves: frozenset[WaitingSave], text: str, hint: str) -> None:
        outcome = NudgeOutcome(server, Phase.UNREACHABLE, text, hint)
        self._board.post(outcome, [save.token for save in saves])
