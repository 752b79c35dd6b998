"""One round: the newest revision, then every kind in its order, then an honest report."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from reconciler.host import key_days, locks, places
from reconciler.host.config import ServerConfig
from reconciler.host.journal import event
from reconciler.host.published import CurrentView, current_view, published_view
from reconciler.host.status import read_status, write_status
from reconciler.host.suspension import Suspension, suspension
from reconciler.plan import AnyKind, Tell
from reconciler.rounds import keep_spares, nearly_full
from reconciler.rounds.converge import Outcome, SupersededError, converge
from reconciler.rounds.drift import Write, drift_after, remembered, write_events
from reconciler.rounds.newest import Newest, publish_newest
from state import files
from state.errors import LxcGpuError, Remedy
from state.view import View
from state.wire.messages import Report

MOST_RESTARTS = 5
"""How often a round starts over because a newer revision was published meanwhile."""


@dataclass(frozen=True)
class Scope:
    """What a round does."""

    kinds: Sequence[AnyKind]
    only: str | None = None
    """Kinds whose names are users are limited to this one."""
    whole: bool = True
    """Whether its report becomes the server's status."""
    fetch: bool = True
    """Whether the newest revision is fetched; if not, the published one is applied."""
    news: bytes = b""
    """What the nudge brought along, so that nothing need be fetched."""
    leave: Mapping[str, Collection[str]] = field(default_factory=dict)
    """Names of each kind that are left alone."""


def run_round(config: ServerConfig, scope: Scope, tell: Tell, write: Write = event) -> Report:
    """Fetch, converge and report; only report while the server is suspended.

    Events go to `write`. LxcGpuError if the server has no revision at all.
    """
    started, before = time.monotonic(), read_status()
    if (held := suspension()) is not None:
        return _held_still(config, before, held)
    try:
        newest, outcome = _converge_to_newest(config, scope, tell)
    except SupersededError as stopped:
        if (held := suspension()) is None:  # taken back at once: the next round goes on
            held = Suspension("it was, for a moment", time.time(), "somebody")
        report = _held_still(config, before, held)._replace(changes=stopped.changes)
        write_events(before, report, write)
        return report
    report = Report(
        server=config.name,
        revision=newest.view.revision,
        finished=time.time(),
        seconds=round(time.monotonic() - started, 3),
        changes=tuple(outcome.changes),
        failures=tuple(outcome.failures),
        refused=newest.refused,
        key_days=key_days.read(),
        fetched=newest.fetched,
    )
    fresh = not places.ROUND_SINCE_BOOT.exists()
    report = report._replace(drift=drift_after(before, report, fresh=fresh))
    write_events(before, report, write)
    report = _kept(report, scope)
    keep_spares.wake(newest.view)
    if scope.whole:
        files.write_file(places.ROUND_SINCE_BOOT, "")
        nearly_full.look(newest.view)
    return report


def _kept(report: Report, scope: Scope) -> Report:
    """The report with recent drift, written to the status: the whole report, or only the drift."""
    with locks.lock(locks.STATUS):
        known = read_status()
        drift = remembered(known.drift if known else (), report.drift)
        if scope.whole:
            write_status(report._replace(drift=drift))
        elif known and report.drift:
            write_status(known._replace(drift=drift))
    return report._replace(drift=drift)


def _held_still(config: ServerConfig, before: Report | None, held: Suspension) -> Report:
    return Report(
        server=config.name,
        revision=before.revision if before else "",
        finished=time.time(),
        seconds=0,
        suspended=held.words(),
        drift=before.drift if before else (),
    )


def _converge_to_newest(config: ServerConfig, scope: Scope, tell: Tell) -> tuple[Newest, Outcome]:
    """Converge, starting over when a newer view is published. SupersededError when suspended."""
    newest = _published(config, scope) if scope.fetch else Newest(current_view())
    changes = tuple[str, ...]()
    for _ in range(MOST_RESTARTS):
        try:
            return newest, _converge(newest.view, scope, tell, changes)
        except SupersededError as stopped:
            if suspension() is not None:
                raise
            newest, changes = Newest(published_view() or newest.view), stopped.changes
    raise LxcGpuError(
        "restless",
        f"The state changed {MOST_RESTARTS} times while this round ran.",
        "The next round will try again.",
        Remedy.WAIT,
    )


def _published(config: ServerConfig, scope: Scope) -> Newest:
    """The newest view. While the repository is refused, only the repository can end that."""
    last = read_status()
    return publish_newest(config, b"" if last is not None and last.refused else scope.news)


def _converge(view: View, scope: Scope, tell: Tell, before: Sequence[str]) -> Outcome:
    published = CurrentView(view.revision)
    return converge(
        scope.kinds,
        view,
        only=scope.only,
        tell=tell,
        current=lambda: suspension() is None and published(),
        before=before,
        leave=scope.leave,
    )
