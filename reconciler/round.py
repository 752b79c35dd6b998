"""One round: the newest revision, then every kind in its order, then an honest report."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from reconciler import places
from reconciler.converge import Outcome, SupersededError, converge
from reconciler.newest import Newest, publish_newest, published_view
from reconciler.plan import AnyKind, Tell
from reconciler.server import ServerConfig
from reconciler.status import write_status
from state.errors import LxcGpuError, Remedy
from state.wire import Report

MOST_RESTARTS = 5
"""How often a round starts over because a newer revision was published meanwhile."""


@dataclass(frozen=True)
class Scope:
    """What a round is about."""

    kinds: Sequence[AnyKind]
    only: str | None = None
    """Kinds whose names are users stay at this one."""
    whole: bool = True
    """Whether its report is the server's status."""


def run_round(config: ServerConfig, scope: Scope, tell: Tell) -> Report:
    """Fetch, converge, report.

    LxcGpuError if the server has no revision to go by at all.
    """
    started = time.monotonic()
    newest, outcome = _converge_to_newest(config, scope, tell)
    report = Report(
        server=config.name,
        revision=newest.view.revision,
        finished=time.time(),
        seconds=round(time.monotonic() - started, 3),
        changes=tuple(outcome.changes),
        failures=tuple(outcome.failures),
        refused=newest.refused,
    )
    if scope.whole:
        write_status(report)
    return report


def _converge_to_newest(config: ServerConfig, scope: Scope, tell: Tell) -> tuple[Newest, Outcome]:
    newest = publish_newest(config)
    for _ in range(MOST_RESTARTS):
        current = CurrentView(newest.view.revision)
        try:
            outcome = converge(
                scope.kinds, newest.view, only=scope.only, tell=tell, current=current
            )
        except SupersededError:
            newest = Newest(published_view() or newest.view, newest.refused)
        else:
            return newest, outcome
    raise LxcGpuError(
        "restless",
        f"The state changed {MOST_RESTARTS} times while this round ran.",
        "The next round goes on.",
        Remedy.WAIT,
    )


class CurrentView:
    """Answers whether a revision is still the published one; reads the file only if it changed."""

    def __init__(self, revision: str) -> None:
        self._revision = revision
        self._seen = 0

    def __call__(self) -> bool:
        """Whether no newer revision was published."""
        changed = places.VIEW.stat().st_mtime_ns
        if changed == self._seen:
            return True
        view = published_view()
        if view is None or view.revision != self._revision:
            return False
        self._seen = changed
        return True
