"""The page behind a real nginx: who asks, and who can't keep others out."""

from __future__ import annotations

import http.client
import os
import socket
import urllib.parse
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import pytest

from tests.integration import slapd
from tests.integration.monitored import make_monitored
from tests.integration.nginx import NGINX, behind_nginx, nginx
from tests.integration.slapd import Slapd
from tests.integration.web import KEY, PEOPLE, Web, make_web
from tests.patience import HANGS
from webui.directory.throttle import SOURCE_PACE
from webui.monitor.shown import live_updates
from webui.pages.monitor import MONITORS

pytestmark = [
    pytest.mark.skipif(not NGINX.exists(), reason="needs nginx (apt-get install nginx)"),
    pytest.mark.skipif(
        not Path("/usr/sbin/slapd").exists(), reason="needs slapd (apt-get install slapd)"
    ),
]
MALLORY, ANN = "127.0.0.7", "127.0.0.8"
"""Two machines."""
NEVER_END = (
    b"",
    b"G",
    b"GET / HTTP/1.1\r\nHost: iam\r\nX-Slow: ",
    b"POST /user/ann HTTP/1.1\r\nHost: iam\r\nContent-Length: 100000\r\n\r\nlogin=",
)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slapd]:
    with slapd.running(tmp_path_factory.mktemp("slapd"), PEOPLE) as running:
        yield running


@pytest.fixture
def web(tmp_path: Path, directory: Slapd) -> Web:
    return make_web(tmp_path, directory, {"gpu17": ("127.0.0.1", slapd.free_port())})


@pytest.fixture
def monitored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Web:
    monkeypatch.setattr(
        live_updates, "PULSE", live_updates.PACE + 0.5
    )  # to see soon that a browser left
    return make_monitored(tmp_path, 2)[0]


def asks(port: int, source: str) -> http.client.HTTPConnection:
    return http.client.HTTPConnection("127.0.0.1", port, HANGS, source_address=(source, 0))


def status(port: int, source: str, path: str = "/") -> int:
    with closing(asks(port, source)) as connection:
        connection.request("GET", path)
        return connection.getresponse().status


def save(port: int, source: str, login: str, password: str, **headers: str) -> int:
    body = urllib.parse.urlencode({"login": login, "password": password, "keys": f"{KEY} laptop"})
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    with closing(asks(port, source)) as connection:
        connection.request("POST", f"/user/{login}", body, {**form, **headers})
        return connection.getresponse().status


def sends(port: int, source: str, text: bytes) -> socket.socket:
    made = socket.create_connection(("127.0.0.1", port), HANGS, source_address=(source, 0))
    made.sendall(text)
    return made


def says(made: socket.socket, wanted: bytes) -> bytes:
    """What comes, until `wanted` is in it or nothing comes any more."""
    text = b""
    with suppress(ConnectionResetError):
        while wanted not in text and (more := made.recv(65536)):
            text += more
    return text


def live(port: int, source: str) -> socket.socket:
    return sends(port, source, b"GET /monitor/events HTTP/1.1\r\nHost: iam\r\n\r\n")


class TestWhoAsks:
    def test_wrong_passwords_from_one_machine_slow_no_other_down(
        self, web: Web, caplog: pytest.LogCaptureFixture
    ) -> None:
        with behind_nginx(web) as port, caplog.at_level("INFO"):
            answers = [save(port, MALLORY, f"nobody{n}", "x") for n in range(SOURCE_PACE.free + 2)]
            assert answers == [403] * SOURCE_PACE.free + [429] * 2
            assert save(port, ANN, "ann", "ann's own") == 303
        assert f"event=refused user=nobody0 source={MALLORY} " in caplog.text
        assert f"event=saved user=ann source={ANN} " in caplog.text

    @pytest.mark.parametrize(
        "header",
        ["X-Forwarded-For", "Forwarded", "X-Real-IP", "x_forwarded_for", "X-Forwarded-for"],
    )
    def test_nobody_forges_an_address(
        self, web: Web, caplog: pytest.LogCaptureFixture, header: str
    ) -> None:
        said = "for=" * (header == "Forwarded") + ANN
        with behind_nginx(web) as port, caplog.at_level("INFO"):
            save(port, MALLORY, "nobody", "x", **{header: said})
            two = f"{ANN}, {ANN}\r\n{header}: {said}"
            with closing(sends(port, MALLORY, (
                f"POST /user/nobody HTTP/1.1\r\nHost: iam\r\n{header}: {two}\r\n"
                "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 44\r\n\r\n"
                f"login=nobody&password=y&keys={'a' * 15}"
            ).encode())) as forged:  # fmt: skip
                says(forged, b"</html>")
        assert f"source={MALLORY} " in caplog.text
        assert ANN not in caplog.text

    @pytest.mark.parametrize(
        ("said", "source"),
        [
            ("203.0.113.66, 203.0.113.9", "203.0.113.9"),
            ("203.0.113.9:5555", "203.0.113.9"),
            ("2001:db8:1:2::5", "2001:db8:1:2::/64"),
            ("my neighbour's", "127.0.0.1"),
        ],
    )
    def test_a_proxy_on_this_machine_names_the_last_address_that_it_saw(
        self, web: Web, caplog: pytest.LogCaptureFixture, said: str, source: str
    ) -> None:
        with behind_nginx(web, "127.0.0.1") as port, caplog.at_level("INFO"):
            save(port, "127.0.0.1", "nobody", "x", **{"X-Forwarded-For": said})
        assert f"source={source} " in caplog.text

    def test_only_its_group_may_open_the_socket(self, web: Web) -> None:
        with behind_nginx(web):
            found = (web.folder / "page").stat()
        assert (found.st_mode & 0o777, found.st_gid) == (0o660, os.getgid())


class TestNobodyKeepsOthersOut:
    def test_by_requests_that_never_end(self, monitored: Web) -> None:
        with behind_nginx(monitored) as port, ExitStack() as open_:
            slow = [open_.enter_context(closing(sends(port, MALLORY, t))) for t in NEVER_END * 50]
            assert status(port, ANN) == 200
            for each in slow[1::40]:
                each.sendall(b"x")  # a drip
            assert status(port, ANN, "/monitor") == 200
            assert status(port, MALLORY) == 200
            for each in slow:
                assert b"200 OK" not in says(each, b"\0"), "and in the end they are cut off"

    def test_by_live_pages(self, monitored: Web) -> None:
        with behind_nginx(monitored) as port, ExitStack() as open_:
            for _ in range(MONITORS + 20):
                open_.enter_context(closing(live(port, MALLORY)))
            for _ in range(3):
                page = open_.enter_context(closing(live(port, ANN)))
                assert b"event: fleet" in says(page, b"event: fleet")
            assert status(port, ANN) == 200

    def test_by_very_many_requests(self, monitored: Web) -> None:
        with behind_nginx(monitored, connections=10) as port, ExitStack() as open_:
            for _ in range(10):
                page = open_.enter_context(closing(live(port, MALLORY)))
                assert b"event: fleet" in says(page, b"event: fleet")
            with closing(asks(port, MALLORY)) as connection:
                connection.request("GET", "/")
                answer = connection.getresponse()
                assert answer.status == 429
                assert "Too many requests at once" in answer.read().decode()
            assert status(port, ANN) == 200


def test_a_page_that_is_away_is_said_in_words(tmp_path: Path) -> None:
    with nginx(tmp_path) as (port, _), closing(asks(port, ANN)) as connection:
        connection.request("GET", "/user/ann")
        answer = connection.getresponse()
        page = answer.read().decode()
    assert answer.status in (502, 503)
    assert answer.headers["Retry-After"]
    assert "Try again in a minute." in page
    assert "//" not in page, "it needs nothing from elsewhere"
