"""What the page shows about one server, made from its latest report. Pure.

If all is well, that is one quiet line. Each problem has a text, a hint and a code.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from state.model.documents import Server
from state.wire.messages import Drift, Failure, Report
from webui.servers.board import Phase, ServerStanding

CLOCK_SLACK = 60.0
"""Seconds that a server's clock may differ from ours before the page says so."""


@dataclass(frozen=True)
class Remark:
    """One problem, and what to do about it."""

    title: str
    text: str
    hint: str = ""
    code: str = ""


@dataclass(frozen=True)
class ServerCard:
    """One server."""

    name: str
    address: str
    phase: str
    """The colour."""
    word: str
    """The server's condition in a word or two."""
    lines: tuple[Remark, ...] = ()
    """The problems, if there are any."""
    revision: str = ""
    behind: int | None = 0
    """Commits that it doesn't have yet; None if its revision isn't in our history."""
    report: Report | None = None
    heard: float | None = None
    """When its report came, by our clock."""
    since: float | None = None
    """Since when it is unreachable, if it is."""
    failures: tuple[tuple[str, tuple[Failure, ...]], ...] = ()
    """By user. The server's own come first, under the empty name."""
    drift: tuple[Drift, ...] = ()
    """Changes by hand that were undone, the newest first."""

    @property
    def failure_count(self) -> int:
        """The number of things that a round couldn't put right."""
        return sum(len(each) for _, each in self.failures)


def server_card(
    name: str,
    server: Server,
    standing: ServerStanding | None,
    behind: int | None,
    users: Iterable[str] = (),
) -> ServerCard:
    """The card of the server `name`, which lacks `behind` commits."""
    address = str(server.address)
    if standing is None:
        return ServerCard(name, address, "waiting", "not asked yet")
    report = standing.report
    unreachable = standing.outcome.phase is Phase.UNREACHABLE
    lines = [*_unreachable(standing), *_lines(report, standing.heard)]
    if report is None:
        word = "never reached" if unreachable else "no report"
        if not unreachable:
            lines.append(Remark("It gave no report", standing.outcome.text, standing.outcome.hint))
        phase = "unreachable" if unreachable else "problems"
        return ServerCard(name, address, phase, word, tuple(lines), since=standing.outcome.since)
    phase, word = ("unreachable", "unreachable") if unreachable else _state(report, behind)
    return ServerCard(
        name=name,
        address=address,
        phase=phase,
        word=word,
        lines=tuple(lines),
        revision=report.revision,
        behind=behind,
        report=report,
        heard=standing.heard,
        since=standing.outcome.since,
        failures=_by_owner(report.failures, frozenset(users)),
        drift=tuple(reversed(report.drift)),
    )


def failures_of(
    user: str, standings: Mapping[str, ServerStanding]
) -> dict[str, tuple[Failure, ...]]:
    """By server: what it couldn't put right for `user`; servers without such are left out."""
    found = {}
    for server, standing in sorted(standings.items()):
        failures = standing.report.failures if standing.report else ()
        own = tuple(failure for failure in failures if failure.name == user)
        if own:
            found[server] = own
    return found


def _state(report: Report, behind: int | None) -> tuple[str, str]:
    """The colour and the word for a server that answers."""
    if report.suspended:
        return "suspended", "suspended"
    if report.refused or report.failures:
        return "problems", "needs a look"
    if behind != 0:
        return "behind", "catching up"
    return "converged", "converged"


def _unreachable(standing: ServerStanding) -> list[Remark]:
    outcome = standing.outcome
    if outcome.phase is not Phase.UNREACHABLE:
        return []
    title = "Silent" if standing.report else "Never reached"
    return [Remark(title, outcome.text, outcome.hint)]


def _lines(report: Report | None, heard: float | None) -> list[Remark]:
    if report is None:
        return []
    lines = []
    if report.suspended:
        hint = f"On {report.server}, `lxc-gpu resume` ends this."
        lines.append(Remark("A sysadmin suspended it", report.suspended, hint))
    if report.refused:
        hint = "It stays as it is until it gets a revision that it accepts."
        lines.append(Remark("A newer revision was refused", report.refused, hint))
    if heard is not None:
        lines += clock_lines(report.server, report.finished, heard)
    return lines


def clock_lines(server: str, said: float, heard: float) -> list[Remark]:
    """A remark if `server`'s clock is wrong: it said `said` when ours said `heard`."""
    off = said - heard
    if abs(off) <= CLOCK_SLACK:
        return []
    how = f"{abs(off) / 60:.0f} minutes {'ahead of' if off > 0 else 'behind'} this machine's"
    hint = f"On {server}, `timedatectl` shows whether its clock is synchronized."
    return [Remark("Its clock is wrong", f"It is {how}.", hint)]


def _by_owner(
    failures: Iterable[Failure], users: frozenset[str]
) -> tuple[tuple[str, tuple[Failure, ...]], ...]:
    """The failures by user, sorted; those of no user come first."""
    found: dict[str, list[Failure]] = {}
    for failure in failures:
        found.setdefault(failure.name if failure.name in users else "", []).append(failure)
    return tuple((name, tuple(found[name])) for name in sorted(found))
