"""Serves the web page: `python -m webui.serve`, started by lxc-gpu-web.service.

People reach it only through nginx, over a unix socket that systemd keeps open while the page
restarts. Without nginx, it listens only on the loopback, for developers: there it has little
patience with slow clients, and ignores headers about their addresses.
"""

from __future__ import annotations

import grp
import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from flask import Flask
from waitress import create_server  # type: ignore[import-untyped]
from waitress.server import BaseWSGIServer  # type: ignore[import-untyped]

from state.errors import LxcGpuError
from webui import config as configuration
from webui import events
from webui.application import assemble, build
from webui.config import WebConfig
from webui.events import Code
from webui.live import LEAVING
from webui.pages.iam import SAVES
from webui.pages.monitor import MONITORS
from webui.pages.results import STREAMS
from webui.services import Services

log = logging.getLogger("webui")

MOST_UNSENT = 256 * 1024
"""Bytes that are buffered for a slow browser; then its page waits. With waitress's 16 MiB, fifty
live pages took 900 MiB."""
UNREAD = 60_000
"""Milliseconds after which a browser that reads nothing is disconnected: it occupies a thread."""
THREADS = STREAMS + MONITORS + 2 * LEAVING + SAVES + 24
"""Live pages and saves occupy one thread each. 24 are always left for other pages."""
CONNECTIONS = THREADS + 1000
"""More than threads, since connections with incomplete requests must not keep others out."""
NGINX = "www-data"
"""The group of nginx in Debian and Ubuntu. Only nginx may open the socket."""
HANDED_OVER = 3
"""The descriptor of the socket that systemd passes: sd_listen_fds(3)."""


def main(arguments: list[str] | None = None) -> int:
    """Serve until SIGTERM; the exit status.

    The arguments are the path of web.toml and that of the socket for nginx. The second one is used
    by the unit of an earlier release, without a socket from systemd.
    """
    given = sys.argv[1:] if arguments is None else arguments
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(levelname)s %(message)s")
    logging.getLogger("paramiko").setLevel(logging.CRITICAL)
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    try:
        config = configuration.read(Path(given[0]) if given else configuration.DEFAULT_PATH)
        _warn_of_plain_passwords(config)
        parts = assemble(config)
        server, place = _listening(build(config, parts), config, given[1:])
    except LxcGpuError as error:
        print(error, file=sys.stderr)
        return os.EX_CONFIG
    _begin_background_work(parts)
    events.info(log, Code.SERVING, listen=place)
    signal.signal(signal.SIGTERM, _end)
    server.run()
    parts.listeners.stop()
    parts.sending.stop()
    parts.history.stop()
    return 0


def _warn_of_plain_passwords(config: WebConfig) -> None:
    if config.directory.dangerously_unencrypted:
        what = "passwords go to the directory UNENCRYPTED"
        events.warning(log, Code.INSECURE, what=what)
    if config.public_url.startswith("http://") and not config.is_loopback:
        what = f"{config.public_url} has no TLS: passwords cross the network readable"
        events.warning(log, Code.INSECURE, what=what)


def _listening(
    app: Flask, config: WebConfig, sockets: Sequence[str]
) -> tuple[BaseWSGIServer, object]:
    """A server that listens, and where: at systemd's socket, or one of `sockets`, or a port.

    LxcGpuError if it would listen on the network without nginx.
    """
    if os.environ.get("LISTEN_PID") == str(os.getpid()):
        handed = socket.socket(fileno=HANDED_OVER)
        return listen_for_nginx(app, handed), handed.getsockname()
    if sockets:
        return listen_for_nginx(app, at(Path(sockets[0]))), sockets[0]
    if config.is_loopback:
        return listen(app, config.host, config.port), config.listen
    raise _not_alone(config.listen)


def _begin_background_work(parts: Services) -> None:
    config = parts.config
    parts.nudger.watch(
        lambda: parts.source.current().revision,
        look_every=config.fetch_seconds,
        refresh_every=config.refresh_interval.total_seconds(),
    )
    parts.history.watch()
    parts.listeners.watch(config.fetch_seconds)
    parts.sending.watch()
    if not config.looks_up:
        why = "people bind as themselves (bind_template), and there is no service account"
        events.warning(log, Code.DIRECTORY_OFF, why=why)
        return
    parts.refresher.watch(60 * config.directory_refresh_minutes)
    if config.usage.groups:
        parts.memberships.watch(60 * config.directory_refresh_minutes)


def listen(app: Flask, host: str, port: int) -> BaseWSGIServer:
    """A server for `app` that listens without nginx. `run` serves."""
    return _server(app, _sockets(host, port))


def listen_for_nginx(app: Flask, listening: socket.socket) -> BaseWSGIServer:
    """A server for `app` at nginx's unix socket, which believes nginx about clients' addresses.

    Waitress calls the peer of any unix socket "localhost", and ignores the header from other peers.
    """
    header = {"x-forwarded-for"}
    return _server(app, [listening], trusted_proxy="localhost", trusted_proxy_headers=header)


def _server(app: Flask, sockets: Sequence[socket.socket], **trust: object) -> BaseWSGIServer:
    return create_server(
        app,
        sockets=sockets,
        threads=THREADS,
        connection_limit=CONNECTIONS,
        asyncore_use_poll=True,  # select(2) knows 1024 descriptors
        ident=None,
        max_request_body_size=1024 * 1024,
        channel_timeout=60,
        outbuf_high_watermark=MOST_UNSENT,
        **trust,
    )


def at(path: Path, group: str = NGINX) -> socket.socket:
    """A unix socket at `path` that our account and `group` can connect to (unix(7))."""
    path.unlink(missing_ok=True)
    made = socket.socket(socket.AF_UNIX)
    before = os.umask(0o177)
    try:
        made.bind(str(path))
    finally:
        os.umask(before)
    os.chown(path, -1, grp.getgrnam(group).gr_gid)
    path.chmod(0o660)
    made.listen()
    return made


def _not_alone(listen: str) -> LxcGpuError:
    return LxcGpuError(
        "web-without-nginx",
        f"web.toml says listen = {listen}, which is for nginx in front of the page. Without nginx,"
        " the page listens only on the loopback.",
        "Run setup/web-server, which sets both up.",
    )


def _sockets(host: str, port: int) -> list[socket.socket]:
    """A socket for each address of `host`. Accepted connections inherit their options."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    made = [socket.create_server(place, family=family) for family, *_, place in found]
    for each in made:
        each.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD)
    return made


def _end(*_: object) -> None:
    raise SystemExit  # ends the server's loop


if __name__ == "__main__":
    sys.exit(main())
