"""The webhook: JSON with `text`, as chat programs take it, is posted to one address."""

from __future__ import annotations

import http.client
import json
import socket
from contextlib import closing, suppress
from threading import Timer
from urllib.parse import urlsplit

from state.certificates import believing
from state.errors import LxcGpuError, Remedy
from webui.config import WebhookConfig

ANSWER, WHOLE = 10.0, 30.0
"""Seconds for each answer, and for the whole."""
MOST_READ = 64 * 1024
"""Bytes of the answer that are read. Only its status matters."""


class WebhookDownError(LxcGpuError):
    """The webhook didn't accept the text."""


def post(config: WebhookConfig, text: str) -> None:
    """Post `text`. WebhookDownError unless it is accepted. Redirects aren't followed."""
    parts = urlsplit(config.address())
    host = str(parts.hostname)
    try:
        if parts.scheme == "https":
            context = believing(config.ca_file)
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                host, parts.port, timeout=ANSWER, context=context
            )
        else:
            connection = http.client.HTTPConnection(host, parts.port, timeout=ANSWER)
        with closing(connection):
            status = _status(connection, parts.path or "/", parts.query, text)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _down(host, f"it doesn't answer ({type(error).__name__})", repr(error)) from error
    if not 200 <= status < 300:
        moved = ", a redirect, which isn't followed" if 300 <= status < 400 else ""
        raise _down(host, f"it answers with status {status}{moved}", "")


def _status(connection: http.client.HTTPConnection, path: str, query: str, text: str) -> int:
    target = f"{path}?{query}" if query else path
    timer = Timer(WHOLE, _hang_up, (connection,))
    timer.daemon = True
    timer.start()
    try:
        body = json.dumps({"text": text}).encode()
        connection.request("POST", target, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        answer.read(MOST_READ)
        return answer.status
    finally:
        timer.cancel()


def _hang_up(connection: http.client.HTTPConnection) -> None:
    with suppress(OSError, AttributeError, ValueError):
        connection.sock.shutdown(socket.SHUT_RDWR)


def _down(host: str, why: str, details: str) -> WebhookDownError:
    return WebhookDownError(
        "webhook-down",
        f"The webhook at {host} doesn't accept messages: {why}.",
        "Is `url` in web.toml, [webhook], right?",
        Remedy.WAIT,
        details[:300],
    )
