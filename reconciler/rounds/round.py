"""One round: the newest revision, then every kind in its order, then an honest report."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from reconciler.host import places
from reconciler.host.config import ServerConfig
from reconciler.host.journal import event
from reconciler.host.published import CurrentView, published_view
from reconciler.host.status import read_status, write_status
from reconciler.host.suspension import Suspension, suspension
from reconciler.plan import AnyKind, Tell
from reconciler.rounds.converge import Outcome, SupersededError, converge
from reconciler.rounds.newest import Newest, publish_newest
from state import files
from state.errors import LxcGpuError, Remedy
from state.wire.messages import MOST_DRIFT, Drift, Report

MOST_RESTARTS = 5
"""How often a round starts over because a newer revision was published meanwhile."""
UPKEEP = frozenset({"hairpin"})
"""Kinds whose things begin anew with each start of a container, from inside, too: no drift."""
MOST_EVENTS = 100
"""Changes of one round that the journal lists one by one."""


@dataclass(frozen=True)
class Scope:
    """What a round is about."""

    kinds: Sequence[AnyKind]
    only: str | None = None
    """Kinds whose names are users stay at this one."""
    whole: bool = True
    """Whether its report is the server's status."""


def run_round(config: ServerConfig, scope: Scope, tell: Tell) -> Report:
    """Fetch, converge, report; nothing but a report while the server is suspended.

    LxcGpuError if the server has no revision to go by at all.
    """
    started, before = time.monotonic(), read_status()
    if (held := suspension()) is not None:
        return _held_still(config, before, held)
    try:
        newest, outcome = _converge_to_newest(config, scope, tell)
    except SupersededError as stopped:
        if (held := suspension()) is None:  # taken back at once: the next round goes on
            held = Suspension("it was, for a moment", time.time(), "somebody")
        report = replace(_held_still(config, before, held), changes=stopped.changes)
        _write_events(before, report)
        return report
    report = Report(
        server=config.name,
        revision=newest.view.revision,
        finished=time.time(),
        seconds=round(time.monotonic() - started, 3),
        changes=tuple(outcome.changes),
        failures=tuple(outcome.failures),
        refused=newest.refused,
    )
    fresh = not places.ROUND_SINCE_BOOT.exists()
    report = replace(report, drift=drift_after(before, report, fresh=fresh))
    _write_events(before, report)
    if scope.whole:
        write_status(report)
        files.write_file(places.ROUND_SINCE_BOOT, "")
    return report


def drift_after(before: Report | None, report: Report, *, fresh: bool = False) -> tuple[Drift, ...]:
    """What drifted lately, the newest last: changes of a round that began where all was well.

    If the round before ended converged at the same revision, then whatever this one changed was
    changed by somebody meanwhile; unless the server booted meanwhile (`fresh`), or it is UPKEEP.
    """
    if before is None:
        return ()
    alike = before.revision == report.revision and before.converged and not fresh
    changed = [words for words in report.changes if words.partition(":")[0] not in UPKEEP]
    new = tuple(Drift(report.finished, words) for words in changed) if alike else ()
    return (*before.drift, *new)[-MOST_DRIFT:]


def _held_still(config: ServerConfig, before: Report | None, held: Suspension) -> Report:
    return Report(
        server=config.name,
        revision=before.revision if before else "",
        finished=time.time(),
        seconds=0,
        suspended=held.words(),
        drift=before.drift if before else (),
    )


def _write_events(before: Report | None, report: Report) -> None:
    drifted = {drift.words for drift in report.drift if drift.when == report.finished}
    for words in report.changes[:MOST_EVENTS]:
        event("drift" if words in drifted else "changed", what=words)
    if len(report.changes) > MOST_EVENTS:
        event("changed", what=f"{len(report.changes) - MOST_EVENTS} things more")
    for failure in report.failures:
        event("failed", kind=failure.kind, name=failure.name, code=failure.code,
              message=failure.message)  # fmt: skip
    if report.refused and (before is None or before.refused != report.refused):
        event("round-refused", why=report.refused)


def _converge_to_newest(config: ServerConfig, scope: Scope, tell: Tell) -> tuple[Newest, Outcome]:
    """Converge, starting over with a newer view. SupersededError once the server is suspended."""
    newest, changes = publish_newest(config), tuple[str, ...]()
    for _ in range(MOST_RESTARTS):
        published = CurrentView(newest.view.revision)

        def current(published: CurrentView = published) -> bool:
            return suspension() is None and published()

        try:
            outcome = converge(
                scope.kinds,
                newest.view,
                only=scope.only,
                tell=tell,
                current=current,
                before=changes,
            )
        except SupersededError as stopped:
            if suspension() is not None:
                raise
            newest, changes = Newest(published_view() or newest.view), stopped.changes
        else:
            return newest, outcome
    raise LxcGpuError(
        "restless",
        f"The state changed {MOST_RESTARTS} times while this round ran.",
        "The next round goes on.",
        Remedy.WAIT,
    )
