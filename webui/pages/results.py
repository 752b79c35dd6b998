"""The progress of a save, server by server."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

from flask import Blueprint, Flask, Response, abort, current_app, render_template

from webui.live import PULSE, STILL_HERE
from webui.servers.board import Board
from webui.servers.board import Save as Saved
from webui.services import services, source_address

results = Blueprint("results", __name__)

STREAMS = 24
"""Live pages at a time. Beyond that, pages reload automatically."""
LONGEST_STREAM = 660.0
"""Seconds. A nudge takes at most 600."""
BREATH = 0.2
"""Seconds between two updates."""


@results.get("/save/<token>")
def save(token: str) -> str:
    """The progress of a save."""
    return render_template("save.html", save=_saved(token))


@results.get("/save/<token>/events")
def events(token: str) -> Response:
    """The progress as server-sent events, each with the new list of servers as HTML."""
    _saved(token)
    app = current_app._get_current_object()  # type: ignore[attr-defined]
    news = _events(app, services().board, token)
    return services().live_saves.stream(news, source_address())


def _events(app: Flask, board: Board, token: str) -> Iterator[str]:
    deadline = time.monotonic() + LONGEST_STREAM
    seen = -1
    while time.monotonic() < deadline:
        saved = board.wait(token, seen, PULSE)
        if saved is None:
            break
        if saved.version == seen:
            yield STILL_HERE
            continue
        seen = saved.version
        yield f"event: save\ndata: {json.dumps(_html(app, saved))}\n\n"
        if saved.finished:
            break
        time.sleep(BREATH)
    yield "event: done\ndata: {}\n\n"


def _html(app: Flask, saved: Saved) -> str:
    return app.jinja_env.get_template("_save.html").render(save=saved)


def _saved(token: str) -> Saved:
    saved = services().board.save(token)
    if saved is None:
        abort(404)
    return saved
