"""The webhook: what it gets, and whatever it answers."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.unit.webui.outbox import hostile
from tests.unit.webui.test_config import GOOD
from webui.config import ConfigError, WebhookConfig, parse
from webui.outbox import webhook
from webui.outbox.webhook import WebhookDownError, post


class Receiver(ThreadingHTTPServer):
    """Keeps what was posted, and answers as a test wants."""

    daemon_threads = True

    def __init__(self) -> None:
        self.got: list[tuple[str, Any]] = []
        self.status, self.location = 200, ""
        super().__init__(("localhost", 0), _Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://localhost:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:  # its name
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append((self.path, json.loads(body)))
        self.send_response(self.server.status)
        if self.server.location:
            self.send_header("Location", self.server.location)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        yield server
        server.shutdown()


def test_it_gets_json_with_text(receiver: Receiver, tmp_path: Path) -> None:
    post(WebhookConfig(url=f"{receiver.url}/hooks/1?room=gpu"), 'Ü "1"\n2')
    file = tmp_path / "url"
    file.write_text(f"{receiver.url}/secret\n")
    post(WebhookConfig(url_file=file), "2")
    assert receiver.got == [("/hooks/1?room=gpu", {"text": 'Ü "1"\n2'}), ("/secret", {"text": "2"})]


@pytest.mark.parametrize("status", [301, 302, 307, 400, 404, 500, 503])
def test_another_answer_than_yes_is_no(receiver: Receiver, status: int) -> None:
    receiver.status, receiver.location = status, f"{receiver.url}/elsewhere"
    with pytest.raises(WebhookDownError, match=str(status)):
        post(WebhookConfig(url=receiver.url), "x")
    assert [path for path, _ in receiver.got] == ["/"], "redirects are not followed"


@pytest.mark.parametrize(
    "answer",
    [lambda c: None, lambda c: hostile.for_ever(c, b"HTTP/1.1 200 OK\r\nX: y\r\n" * 999),
     lambda c: hostile.for_ever(c, b"H", 0.02), lambda c: c.recv(1 << 20) and c.recv(1 << 20)]
)  # fmt: skip
def test_whatever_answers_instead_ends_soon(
    answer: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook, "ANSWER", 0.3)
    monkeypatch.setattr(webhook, "WHOLE", 0.6)
    with hostile.listening(answer) as port, pytest.raises(WebhookDownError):
        post(WebhookConfig(url=f"http://localhost:{port}/"), "x")


def test_gigabytes_of_an_answer_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(connection: socket.socket) -> None:
        connection.recv(1 << 20)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9999999999\r\n\r\n")
        hostile.for_ever(connection, b"x" * 65536)

    with hostile.listening(answer) as port:
        post(WebhookConfig(url=f"http://localhost:{port}/"), "x")


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ('[webhook]\nurl = "ftp://x"', "must look like"),
        ('[webhook]\nurl = "http://chat.mylab.com/x"', "dangerously_unencrypted"),
        ('[webhook]\nurl = "https://a b/"', "without blanks"),
        ("[webhook]", "url or url_file"),
        ('[mail]\nhost = "m"\nfrom = "gpu@mylab.com"\ntls = "none"', "dangerously_unencrypted"),
        ('[mail]\nhost = "m"\nfrom = "GPU <gpu@mylab.com>"', "must look like"),
        ('[mail]\nhost = "m"\nfrom = "a@b.c"\nuser = "x"', "password_file"),
        ('[mail]\nhost = "m"', "`mail.from` is missing"),
        ('[mail]\nhost = "m"\nfrom = "a@b.c"\nsysadmins = ["a@b.c\\nBcc: d@e.f"]', "sysadmins"),
    ],
)
def test_a_configuration_that_can_not_be_is_said(table: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse(GOOD + table, "web.toml")
