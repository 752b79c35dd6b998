"""Serves the web page: `python -m webui.serve`, started by lxc-gpu-web.service."""

from __future__ import annotations

import logging
import signal
import socket
import sys
from pathlib import Path

from flask import Flask
from waitress import create_server  # type: ignore[import-untyped]
from waitress.server import BaseWSGIServer  # type: ignore[import-untyped]

from state.errors import LxcGpuError
from webui import config as configuration
from webui import events
from webui.application import assemble, build
from webui.events import Code
from webui.live import LEAVING
from webui.pages.iam import SAVES
from webui.pages.monitor import MONITORS
from webui.pages.results import STREAMS

MOST_UNSENT = 256 * 1024
"""Bytes that wait for a browser that reads slowly; then its page waits. With waitress's 16 MiB,
fifty live pages took 900."""
UNREAD = 60_000
"""Milliseconds after which a browser that reads nothing at all is gone: it would hold a thread."""
THREADS = STREAMS + MONITORS + 2 * LEAVING + SAVES + 24
"""Live pages and saves under way hold one each; 24 are always left for the plain pages."""


def main(arguments: list[str] | None = None) -> int:
    """Serve until ended. The one argument is the configuration's path."""
    given = sys.argv[1:] if arguments is None else arguments
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(levelname)s %(message)s")
    logging.getLogger("paramiko").setLevel(logging.CRITICAL)
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    try:
        config = configuration.read(Path(given[0]) if given else configuration.DEFAULT_PATH)
    except LxcGpuError as error:
        print(error, file=sys.stderr)
        return 1
    log = logging.getLogger("webui")
    if config.directory.dangerously_unencrypted:
        what = "passwords go to the directory UNENCRYPTED"
        events.warning(log, Code.INSECURE, what=what)
    if config.host not in ("127.0.0.1", "::1", "localhost"):
        what = f"listening on {config.listen} without TLS: passwords cross the network readable"
        events.warning(log, Code.INSECURE, what=what)
    parts = assemble(config)
    server = listen(build(config, parts), config.host, config.port)
    parts.nudger.watch(
        lambda: parts.source.current().revision,
        look_every=config.fetch_seconds,
        refresh_every=config.refresh_interval.total_seconds(),
    )
    parts.history.watch()
    parts.listeners.watch(config.fetch_seconds)
    if config.looks_up:
        parts.roll.watch(60 * config.directory_refresh_minutes)
    else:
        why = "people bind as themselves (bind_template), and there is no service account"
        events.warning(log, Code.DIRECTORY_OFF, why=why)
    events.info(log, Code.SERVING, listen=config.listen)
    signal.signal(signal.SIGTERM, _end)
    server.run()
    parts.listeners.stop()
    parts.history.stop()
    return 0


def listen(app: Flask, host: str, port: int) -> BaseWSGIServer:
    """The server that serves `app`, listening; `run` serves."""
    return create_server(
        app,
        sockets=_sockets(host, port),
        threads=THREADS,
        ident=None,
        max_request_body_size=1024 * 1024,
        channel_timeout=60,
        outbuf_high_watermark=MOST_UNSENT,
    )


def _sockets(host: str, port: int) -> list[socket.socket]:
    """For each address of `host`; what connects has their options."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    made = [socket.create_server(place, family=family) for family, *_, place in found]
    for each in made:
        each.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD)
    return made


def _end(*_: object) -> None:
    raise SystemExit  # which the server's loop takes as its end


if __name__ == "__main__":
    sys.exit(main())
