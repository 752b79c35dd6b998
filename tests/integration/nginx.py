"""A real nginx with the site that setup/web-server writes, in front of a page on this machine."""

from __future__ import annotations

import grp
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.integration.slapd import free_port
from tests.integration.web import Web
from tests.patience import eventually
from webui.serve import at, listen_for_nginx

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "setup"))
from installation.web_nginx import Site, render

NGINX = Path("/usr/sbin/nginx")
MAIN = """\
{user}
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 768; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/site.conf;
}}
"""


@contextmanager
def nginx(
    folder: Path, host: str = "0.0.0.0", connections: int = 100
) -> Iterator[tuple[int, Path]]:
    """Its port, and the socket where it looks for the page, until the block is left."""
    port, page = free_port(), folder / "page"
    site = Site("iam.mylab.com", f"{host}:{port}", False, False, (), connections)
    (folder / "site.conf").write_text(render(site, page))
    user = "user root;" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(MAIN.format(folder=folder, user=user))
    words: list[str | Path] = [NGINX, "-e", folder / "error.log", "-c", folder / "nginx.conf"]
    program = subprocess.Popen(words)

    def answers() -> bool:
        assert program.poll() is None, (folder / "error.log").read_text()
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", port)) == 0

    try:
        eventually(answers)
        yield port, page
    finally:
        program.terminate()
        program.wait(30)


@contextmanager
def behind_nginx(web: Web, host: str = "0.0.0.0", connections: int = 100) -> Iterator[int]:
    """The page as people reach it: the port of the nginx in front of it."""
    with nginx(web.folder, host, connections) as (port, page):
        server = listen_for_nginx(web.app, at(page, grp.getgrgid(os.getgid()).gr_name))
        threading.Thread(target=server.run, daemon=True).start()
        try:
            yield port
        finally:
            server.task_dispatcher.shutdown()
            server.close()
