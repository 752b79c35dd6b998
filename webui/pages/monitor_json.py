"""/monitor.json: the fleet for programs, mainly for `lxc-gpu status`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import cast

from flask import Blueprint, Response

from state.wire.fleet_status import PATH, Condition, FleetStatus, ServerStatus, encode
from state.wire.messages import LATEST
from state.wire.reserved import reserved_gpus
from state.wire.server_load import as_text, as_word
from webui.clone.source import StateReading
from webui.monitor.heard.latest import LastHeard
from webui.pages.servers import cards
from webui.servers.server_card import ServerCard
from webui.services import services

monitor_plain = Blueprint("monitor_plain", __name__)


@monitor_plain.get(PATH)
def monitor_json() -> Response:
    """Everything that is known about each server."""
    parts = services()
    reading = parts.source.current()
    status = fleet_status(reading, cards(reading), parts.latest.all(), parts.clock())
    response = Response(encode(status), mimetype="application/json")
    response.headers["Cache-Control"] = "no-store"
    return response


def fleet_status(
    reading: StateReading, cards: Iterable[ServerCard], seen: Mapping[str, LastHeard], now: float
) -> FleetStatus:
    """The status of the fleet: rounds from `cards`, loads from `seen`. Pure."""
    return FleetStatus(
        at=now,
        revision=reading.revision,
        servers=tuple(_server(card, seen.get(card.name, LastHeard(card.name))) for card in cards),
        stale=as_text(reading.problem),
    )


def _server(card: ServerCard, seen: LastHeard) -> ServerStatus:
    report, load = card.report, seen.load
    now = load if seen.silent_since is None else None
    unreachable = [line.text for line in card.lines] if card.since is not None else []
    return ServerStatus(
        name=card.name,
        address=card.address,
        condition=cast(Condition, card.phase),
        silent_since=seen.silent_since,
        why=as_text(seen.why or " ".join(unreachable[:1])),
        revision=as_word(card.revision),
        behind=None if report is None else card.behind,
        last_round=None if report is None else _moment(report.finished),
        suspended="" if report is None else as_text(report.suspended),
        refused="" if report is None else as_text(report.refused),
        failures=card.failure_count,
        heard=seen.heard,
        load=load,
        free_gpus=tuple(gpu.index for gpu in now.free_gpus) if now else (),
        reserved_gpus=tuple(gpu.index for gpu in reserved_gpus(now)) if now else (),
    )


def _moment(when: float) -> float | None:
    """A time given by a server; None if it isn't valid."""
    return when if 0 <= when <= LATEST else None
