"""The latest report of each server, and the progress of each save: in memory, limited."""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from threading import Condition
from types import MappingProxyType

from state.wire.messages import Failure, Report


class Phase(StrEnum):
    """The stage of one nudge of a server."""

    WAITING = "waiting"
    CONTACTING = "contacting"
    CONVERGED = "converged"
    PROBLEMS = "problems"
    SUSPENDED = "suspended"
    UNREACHABLE = "unreachable"


_OPEN = frozenset((Phase.WAITING, Phase.CONTACTING))


@dataclass(frozen=True)
class NudgeOutcome:
    """The result of nudging one server, so far."""

    server: str
    phase: Phase
    text: str
    """One line for people."""
    hint: str = ""
    """What to do about it."""
    failures: tuple[Failure, ...] = ()
    report: Report | None = None
    at: float = 0.0
    """The time of this result, by our clock."""
    since: float | None = None
    """Since when the server is unreachable, if it is."""

    @property
    def finished(self) -> bool:
        """Whether this is the final result of the nudge."""
        return self.phase not in _OPEN


@dataclass(frozen=True)
class ServerStanding:
    """What is known about one server."""

    outcome: NudgeOutcome
    """The result of the latest nudge."""
    report: Report | None = None
    """The latest report, however old."""
    heard: float | None = None
    """When that report came, by our clock."""


@dataclass(frozen=True)
class Save:
    """One saved change on its way to the servers."""

    token: str
    user: str
    revision: str
    at: float
    outcomes: Mapping[str, NudgeOutcome] = field(default_factory=lambda: MappingProxyType({}))
    version: int = 0
    """Grows with every change. A reader sees by it whether there is something new."""

    @property
    def finished(self) -> bool:
        """Whether the results of all servers are final."""
        return all(outcome.finished for outcome in self.outcomes.values())

    @property
    def converged(self) -> bool:
        """Whether all servers have converged on the save."""
        return all(outcome.phase is Phase.CONVERGED for outcome in self.outcomes.values())


class Board:
    """All saves and servers. Thread-safe. The oldest saves are forgotten."""

    def __init__(self, *, most_saves: int = 500, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._most_saves = most_saves
        self._saves: OrderedDict[str, Save] = OrderedDict()
        self._latest: dict[str, ServerStanding] = {}
        self._changed = Condition()

    def open(self, user: str, revision: str, servers: Iterable[str]) -> str:
        """Begin a save for which all `servers` wait; its token, which can't be guessed."""
        token = secrets.token_urlsafe(18)
        now = self._clock()
        waiting = {s: NudgeOutcome(s, Phase.WAITING, "waiting its turn", at=now) for s in servers}
        with self._changed:
            self._saves[token] = Save(token, user, revision, now, MappingProxyType(waiting))
            while len(self._saves) > self._most_saves:
                self._saves.popitem(last=False)
            self._changed.notify_all()
        return token

    def post(self, outcome: NudgeOutcome, tokens: Iterable[str]) -> None:
        """Note `outcome` for the saves of `tokens`. A final one is also the server's latest."""
        with self._changed:
            outcome = replace(outcome, at=self._clock(), since=self._since(outcome))
            if outcome.finished:
                self._latest[outcome.server] = self._standing(outcome)
            for token in tokens:
                save = self._saves.get(token)
                if save is not None:
                    outcomes = MappingProxyType({**save.outcomes, outcome.server: outcome})
                    newer = replace(save, outcomes=outcomes, version=save.version + 1)
                    self._saves[token] = newer
            self._changed.notify_all()

    def save(self, token: str) -> Save | None:
        """The save with this token; None if it never existed or is forgotten."""
        with self._changed:
            return self._saves.get(token)

    def wait(self, token: str, seen: int, seconds: float) -> Save | None:
        """The save as soon as it is newer than version `seen`, at the latest after `seconds`."""

        def newer() -> bool:
            save = self._saves.get(token)
            return save is None or save.version > seen

        with self._changed:
            self._changed.wait_for(newer, seconds)
            return self._saves.get(token)

    def standings(self) -> Mapping[str, ServerStanding]:
        """What is known about each server that was nudged."""
        with self._changed:
            return dict(self._latest)

    def _since(self, outcome: NudgeOutcome) -> float | None:
        if outcome.phase is not Phase.UNREACHABLE:
            return None
        before = self._latest.get(outcome.server)
        since = None if before is None else before.outcome.since
        return self._clock() if since is None else since

    def _standing(self, outcome: NudgeOutcome) -> ServerStanding:
        before = self._latest.get(outcome.server)
        if outcome.report is None and before is not None:
            return ServerStanding(outcome, before.report, before.heard)
        return ServerStanding(outcome, outcome.report, outcome.at if outcome.report else None)
