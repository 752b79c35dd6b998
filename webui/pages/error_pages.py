"""Error pages: a page or a line of text for people, never a traceback."""

from __future__ import annotations

import logging

from flask import Flask, Response, render_template, request
from werkzeug.exceptions import HTTPException, InternalServerError

from state.errors import LxcGpuError, Remedy
from webui import events
from webui.events import Code

log = logging.getLogger(__name__)

_WORDS = {
    404: ("There is no such page", "The address may be mistyped, or the page is too old: results"
          " are kept for the latest saves only."),
    405: ("That doesn't work here", "This address is for another kind of request."),
    413: ("Far too much text", "Public keys are short: one line each. Nothing was saved."),
    500: ("The web page made a mistake", "Nothing was saved. Your sysadmin finds the details in"
          " the journal: journalctl -u lxc-gpu-web"),
}  # fmt: skip


def install(app: Flask) -> None:
    """Have `app` answer every error with a page for people."""

    @app.errorhandler(HTTPException)
    def http(error: HTTPException) -> Response:
        if error.code is not None and error.code < 400:
            return Response(error.get_response().get_data(), error.code, error.get_headers())
        status = error.code or 500
        title, text = _WORDS.get(status, (error.name, error.description or ""))
        if isinstance(error, InternalServerError):
            events.crashed(log, request.path, error.original_exception)
        return _answer(status, title, text)

    @app.errorhandler(LxcGpuError)
    def known(error: LxcGpuError) -> Response:
        where = {"path": request.path, "details": error.details}
        events.warning(log, Code.FAULT, code=error.code, **where)
        status = 500 if error.remedy is Remedy.PERSON else 503
        return _answer(status, error.message, error.hint)


def _answer(status: int, title: str, text: str) -> Response:
    wants_text = "/.ssh/" in request.path or request.path.endswith(("/port", "/subuid", "/name"))
    if wants_text or request.path == "/users":
        return Response(
            f"{title.rstrip('.')}. {text}\n", status, content_type="text/plain; charset=utf-8"
        )
    page = render_template("fault.html", status=status, title=title, text=text)
    return Response(page, status, content_type="text/html; charset=utf-8")
