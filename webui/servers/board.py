"""What each server last said, and how each save is coming along: in memory, bounded."""

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
    """How far a server is with one nudge."""

    WAITING = "waiting"
    CONTACTING = "contacting"
    CONVERGED = "converged"
    PROBLEMS = "problems"
    SUSPENDED = "suspended"
    UNREACHABLE = "unreachable"


_OPEN = frozenset((Phase.WAITING, Phase.CONTACTING))


@dataclass(frozen=True)
class NudgeOutcome:
    """What came of nudging one server, so far."""

    server: str
    phase: Phase
    text: str
    """One line for a person."""
    hint: str = ""
    """What to do about it."""
    failures: tuple[Failure, ...] = ()
    report: Report | None = None
    at: float = 0.0
    """When this was learnt, by our clock."""
    since: float | None = None
    """Unreachable: since when."""

    @property
    def finished(self) -> bool:
        """Whether nothing more will come of this nudge."""
        return self.phase not in _OPEN


@dataclass(frozen=True)
class ServerStanding:
    """What is known of one server, whoever asked."""

    outcome: NudgeOutcome
    """What the latest nudge came to."""
    report: Report | None = None
    """The latest report it gave, however long ago."""
    heard: float | None = None
    """When it gave that, by our clock."""


@dataclass(frozen=True)
class Save:
    """One saved change on its way to the servers."""

    token: str
    user: str
    revision: str
    at: float
    outcomes: Mapping[str, NudgeOutcome] = field(default_factory=lambda: MappingProxyType({}))
    version: int = 0
    """Grows with every change, so that a reader knows whether it has seen this."""

    @property
    def finished(self) -> bool:
        """Whether all servers have come to an end."""
        return all(outcome.finished for outcome in self.outcomes.values())

    @property
    def converged(self) -> bool:
        """Whether all servers are as the save wants them."""
        return all(outcome.phase is Phase.CONVERGED for outcome in self.outcomes.values())


class Board:
    """Saves and servers, for many threads. The oldest saves are forgotten."""

    def __init__(self, *, most_saves: int = 500, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._most_saves = most_saves
        self._saves: OrderedDict[str, Save] = OrderedDict()
        self._latest: dict[str, ServerStanding] = {}
        self._changed = Condition()

    def open(self, user: str, revision: str, servers: Iterable[str]) -> str:
        """A new save, all servers waiting. Its token can't be guessed."""
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
        """Note `outcome` on these saves; a finished one also as the server's latest."""
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
        """The save with this token; None if there never was one, or it is forgotten."""
        with self._changed:
            return self._saves.get(token)

    def wait(self, token: str, seen: int, seconds: float) -> Save | None:
        """The save, as soon as it is newer than version `seen`, or after `seconds` as it is."""

        def newer() -> bool:
            save = self._saves.get(token)
            return save is None or save.version > seen

        with self._changed:
            self._changed.wait_for(newer, seconds)
            return self._saves.get(token)

    def standings(self) -> Mapping[str, ServerStanding]:
        """How each server that was asked stands."""
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
