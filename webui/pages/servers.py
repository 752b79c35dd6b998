"""The pages about servers: all servers, one server, and the history of the state."""

from __future__ import annotations

from dataclasses import dataclass

from flask import Blueprint, abort, render_template, request

from state.git.history import HistoryEntry
from webui.clone.source import StateReading
from webui.monitor.shown.choice import in_order
from webui.monitor.shown.closed import closed_now, closed_times
from webui.monitor.shown.holdings import glance
from webui.pages import monitor as monitor
from webui.servers.server_card import ServerCard, server_card
from webui.services import services

fleet = Blueprint("fleet", __name__)

PAGE = 50
"""Commits on one page of the history."""


@dataclass(frozen=True)
class HistoryRow:
    """One commit, and on how many servers it is."""

    entry: HistoryEntry
    servers: int
    """The number of servers that have it."""
    asked: int
    """The number of servers that have ever answered."""


@fleet.get("/")
def home() -> str:
    """The first page: all servers, and the form that leads to one's own page."""
    reading = services().source.current()
    gone = services().refresher.news(reading.state)
    seen = services().latest.all()
    now = services().clock()
    glances = {
        name: glance(seen.get(name), closed_now(closed_times(reading.state, name), now))
        for name in reading.state.servers
    }
    return render_template(
        "home.html", reading=reading, servers=cards(reading), news=gone, glances=glances
    )


@fleet.get("/server/<name>")
def server(name: str) -> str:
    """One server: its condition, load, reservations, problems and users."""
    source = services().source
    reading = source.current()
    if name not in reading.state.servers:
        abort(404)
    here = reading.state.servers[name]
    users = [user for user in sorted(reading.state.users)
             if user in reading.state.registrations.get(name, {})]  # fmt: skip
    history = source.history(f"servers/{name}.yaml", f"registrations/{name}", limit=10)
    card = _card(reading, name)
    return render_template(
        "server.html", reading=reading, card=card, users=users, history=history,
        load=monitor.server_card(name), here=here,
        reserved=monitor.server_reservations(name),
    )  # fmt: skip


@fleet.get("/history")
def history() -> str:
    """All commits, the newest first."""
    source = services().source
    reading = source.current()
    total = source.commits()
    last = max(1, -(-total // PAGE))
    number = min(max(1, request.args.get("page", 1, type=int)), last)
    rows = [_row(entry) for entry in source.entries(skip=(number - 1) * PAGE, limit=PAGE)]
    return render_template(
        "history.html", reading=reading, rows=rows, number=number, last=last, total=total
    )


def cards(reading: StateReading) -> list[ServerCard]:
    """The cards of all servers."""
    return [_card(reading, name) for name in sorted(reading.state.servers, key=in_order)]


def _card(reading: StateReading, name: str) -> ServerCard:
    standing = services().board.standings().get(name)
    report = standing.report if standing else None
    behind = 0 if report is None else services().source.behind(report.revision)
    return server_card(name, reading.state.servers[name], standing, behind, reading.state.users)


def _row(entry: HistoryEntry) -> HistoryRow:
    source = services().source
    reports = [s.report for s in services().board.standings().values() if s.report is not None]
    lacking = [source.missing(report.revision) for report in reports]
    have = sum(known is not None and entry.commit.revision not in known for known in lacking)
    return HistoryRow(entry, have, len(reports))
