"""The web page as its unit starts and ends it."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest
from flask import Flask, Response

from tests.integration.slapd import free_port
from tests.integration.sshd import ssh_key
from tests.integration.web import make_repository
from tests.patience import HANGS
from webui import serve

WEB_TOML = """
listen = "127.0.0.1:{port}"
public_url = "http://127.0.0.1:{port}"
repository = "{folder}/state.git"
clone = "{folder}/clone"
signing_key = "{folder}/signing"
nudge_key = "{folder}/nudge"
fetch_seconds = 0.5
[directory]
servers = ["ldaps://127.0.0.1:9"]
base = "dc=mylab,dc=com"
allow = "(objectClass=person)"
bind_template = "{{login}}@mylab.com"
"""


@contextmanager
def serving(folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], Callable[[], str]]]:
    """The page, as a program of its own: it, and how to ask it for /metrics."""
    port = free_port()
    (folder / "web.toml").write_text(WEB_TOML.format(port=port, folder=folder))
    log = (folder / "log").open("w")
    words: list[str | Path] = [sys.executable, "-m", "webui.serve", folder / "web.toml"]
    program = subprocess.Popen(words, stdout=log, stderr=log)

    def metrics() -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
            return str(answer.read(), "utf-8")

    try:
        yield program, metrics
    finally:
        program.kill()
        program.wait()
        log.close()


def wait_for(metrics: Callable[[], str], line: str) -> None:
    deadline = time.monotonic() + HANGS
    while time.monotonic() < deadline:
        try:
            if line in metrics().splitlines():
                return
        except urllib.error.URLError:
            pass
        time.sleep(0.2)
    pytest.fail(f"never {line}")


def test_the_state_may_come_after_the_page(tmp_path: Path) -> None:
    signing = ssh_key(tmp_path / "signing")
    ssh_key(tmp_path / "nudge")
    with serving(tmp_path) as (program, metrics):
        wait_for(metrics, "lxc_gpu_state_readable 0.0")
        assert "lxc_gpu_server_up{" not in metrics()
        make_repository(tmp_path, signing, {"gpu17": ("127.0.0.1", free_port())})
        wait_for(metrics, "lxc_gpu_state_readable 1.0")
        wait_for(metrics, 'lxc_gpu_server_up{server="gpu17"} 0.0')
        assert program.poll() is None
    log = (tmp_path / "log").read_text()
    assert "event=crashed" not in log
    assert "Traceback" not in log


def test_connections_that_say_nothing_leave_room(tmp_path: Path) -> None:
    """More of them than waitress takes by itself."""
    app = Flask("test")
    app.add_url_rule("/", view_func=lambda: "here")
    server = serve.listen(app, "127.0.0.1", 0)
    threading.Thread(target=server.run, daemon=True).start()
    place = ("127.0.0.1", int(server.effective_port))
    with ExitStack() as held:
        for number in range(serve.THREADS + 50):
            silent = held.enter_context(socket.create_connection(place))
            silent.sendall(b"GET / HTTP/1.1\r\n" * (number % 2))
        with urllib.request.urlopen(f"http://127.0.0.1:{place[1]}/", timeout=HANGS) as answer:
            assert answer.read() == b"here"
    server.close()


def test_by_itself_it_listens_on_the_loopback_only(tmp_path: Path) -> None:
    text = WEB_TOML.format(port=80, folder=tmp_path).replace('"127.0.0.1:80"', '"0.0.0.0:80"')
    (tmp_path / "web.toml").write_text(text)
    words: list[str | Path] = [sys.executable, "-m", "webui.serve", tmp_path / "web.toml"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=HANGS, check=False)
    assert done.returncode == os.EX_CONFIG
    assert "Run setup/web-server" in done.stderr
    assert "Traceback" not in done.stderr


def test_it_ends_at_once_and_in_order(tmp_path: Path) -> None:
    signing = ssh_key(tmp_path / "signing")
    ssh_key(tmp_path / "nudge")
    make_repository(tmp_path, signing, {"gpu17": ("127.0.0.1", free_port())})
    with serving(tmp_path) as (program, metrics):
        wait_for(metrics, 'lxc_gpu_server_up{server="gpu17"} 0.0')
        wait_for(metrics, "lxc_gpu_history_kept 1.0")
        program.send_signal(signal.SIGTERM)
        assert program.wait(15) == 0
    assert "Traceback" not in (tmp_path / "log").read_text()
    assert not (tmp_path / "history.db-wal").exists()  # all is in the file itself
    with closing(sqlite3.connect(tmp_path / "history.db")) as history:
        (tables,) = history.execute("PRAGMA user_version").fetchone()
    assert tables == 1


def test_who_does_not_read_gets_no_memory_and_no_thread_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(serve, "UNREAD", 3000)
    made, closed = [], threading.Event()

    def events() -> Iterator[bytes]:
        try:
            while True:
                made.append(100_000)
                yield b"x" * 100_000
        finally:
            closed.set()

    app = Flask("test")
    app.add_url_rule("/", view_func=lambda: Response(events()))
    server = serve.listen(app, "127.0.0.1", 0)
    threading.Thread(target=server.run, daemon=True).start()
    with socket.socket() as browser:
        browser.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 10_000)
        browser.connect(("127.0.0.1", int(server.effective_port)))
        browser.sendall(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
        unsent = -1
        while not made or unsent != (unsent := sum(made)):  # until it stands still
            time.sleep(1)
        assert unsent < 8_000_000  # most of it is the kernel's
        assert closed.wait(HANGS)
        assert sum(made) == unsent
    server.close()
