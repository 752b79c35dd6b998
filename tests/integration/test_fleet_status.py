"""`lxc-gpu status` away from a server: against the real page, and what only looks like one."""

from __future__ import annotations

import json
import os
import re
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from shells.commands import fleet_page
from state.errors import LxcGpuError
from state.wire.fleet_status import decode
from state.wire.messages import Failure, Report
from state.wire.reserved import reserved_gpus
from tests.generated_loads import load, with_reservations
from tests.integration import slapd
from tests.integration.web import PEOPLE, Web, make_web, served
from tests.patience import HANGS
from webui.servers.nudge import outcome_of

Handler = Callable[[BaseHTTPRequestHandler], None]


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    if not Path("/usr/sbin/slapd").exists():
        pytest.skip("needs slapd (apt-get install slapd)")
    dead = {f"gpu{n}": (f"127.0.0.{n}", slapd.free_port()) for n in (17, 18, 19)}
    with slapd.running(tmp_path_factory.mktemp("slapd"), PEOPLE) as directory:
        yield make_web(tmp_path_factory.mktemp("web"), directory, dead)


def report(web: Web, server: str, **changes: Any) -> Report:
    said = Report(server, web.git("rev-parse", "main").strip(), 1.7e9, 0.1)
    return said._replace(**changes)


def reports(web: Web, given: Report) -> None:
    web.parts.board.post(outcome_of(given.server, given, "", web.parts.source.includes), ())


def says(web: Web) -> dict[str, Any]:
    answer = web.app.test_client().get("/monitor.json")
    assert answer.status_code == 200
    assert answer.mimetype == "application/json"
    assert answer.headers["Cache-Control"] == "no-store"
    decode(answer.get_data())
    fields = json.loads(answer.get_data())
    return {server["name"]: server for server in fields["servers"]}


def types(folder: Path, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    """`lxc-gpu status WORDS` in a folder."""
    clean = {name: value for name, value in os.environ.items() if name != fleet_page.VARIABLE}
    command = Path(sys.executable).with_name("lxc-gpu")
    return subprocess.run(
        [command, "status", *words], cwd=folder, env={**clean, "NO_COLOR": "1", **env},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


class TestThePage:
    def test_before_anything_is_heard(self, web: Web) -> None:
        gpu19 = says(web)["gpu19"]
        assert (gpu19["condition"], gpu19["load"], gpu19["silent_since"]) == ("waiting", None, None)

    def test_rounds_and_loads(self, web: Web) -> None:
        now = time.time()
        newest = with_reservations(load("gpu17", now), now)
        reports(web, report(web, "gpu17"))
        web.parts.latest.post("gpu17", newest)
        gpu17 = says(web)["gpu17"]
        assert (gpu17["condition"], gpu17["behind"], gpu17["last_round"]) == ("converged", 0, 1.7e9)
        assert gpu17["free_gpus"] == [gpu.index for gpu in newest.free_gpus]
        assert gpu17["reserved_gpus"] == [gpu.index for gpu in reserved_gpus(newest)] != []
        assert gpu17["load"]["reservations"][0]["user"] == newest.reservations[0].user
        assert gpu17["load"]["memory"]["total"] == newest.memory.total
        assert time.time() - gpu17["heard"] < 60

    def test_a_silent_server_keeps_what_it_said_last(self, web: Web) -> None:
        web.parts.latest.post("gpu18", with_reservations(load("gpu18", 1.0), 1e6))
        before = time.time()
        web.parts.latest.silent("gpu18", LxcGpuError("x", "No route to host.", "Is it up?"))
        gpu18 = says(web)["gpu18"]
        assert abs(gpu18["silent_since"] - before) < 60
        assert gpu18["why"] == "No route to host."
        assert gpu18["load"]["at"] == 1.0
        assert gpu18["free_gpus"] == gpu18["reserved_gpus"] == []

    @pytest.mark.parametrize("moment", [float("nan"), float("inf"), -5.0, 1e300])
    def test_what_a_server_lies_in_its_report_spoils_nothing(self, web: Web, moment: float) -> None:
        lie = "two\nlines \x1b[2J" + "x" * 1900
        failures = tuple(Failure("k", "n", "c", lie) for _ in range(1000))
        reports(web, report(web, "gpu19", revision=lie, finished=moment, failures=failures,
                            refused=lie, suspended=lie))  # fmt: skip
        gpu19 = says(web)["gpu19"]
        assert (gpu19["last_round"], gpu19["failures"]) == (None, 1000)
        assert gpu19["refused"].startswith("two lines \ufffd[2Jxxx")
        assert "\\u001b" not in json.dumps(gpu19)


class TestTheCommand:
    def test_shows_the_fleet(self, web: Web, tmp_path: Path) -> None:
        reports(web, report(web, "gpu17"))
        reports(web, report(web, "gpu19"))
        for server in ("gpu17", "gpu19"):
            web.parts.latest.post(server, load(server, time.time()))
        web.parts.latest.silent("gpu18", LxcGpuError("x", "No route to host."))
        with served(web) as page:
            done = types(tmp_path, "--page", page)
            assert (done.returncode, done.stderr) == (0, "")
            lines = done.stdout.splitlines()
            assert re.match(r"gpu17 +converged +\d/8 ", lines[1])
            assert re.match(r"gpu18 +silent since \d\d:\d\d +- ", lines[2])
            assert re.fullmatch(r"\d+ of 16 GPUs free on 2 servers, 1 silent since .*", lines[4])
            assert lines[5] == "gpu18: No route to host."
            facts = json.loads(types(tmp_path, "--json", **{fleet_page.VARIABLE: page}).stdout)
            assert [server["name"] for server in facts["servers"]] == ["gpu17", "gpu18", "gpu19"]

    def test_on_a_terminal_of_any_width(self, web: Web, tmp_path: Path) -> None:
        command = f"{Path(sys.executable).with_name('lxc-gpu')} status"
        sized = ("COLUMNS", "LINES")  # readline(3) sets them, where a test runner has loaded it
        clean = {name: value for name, value in os.environ.items() if name not in sized}
        with served(web) as page:
            for width in (40, 80):
                shown = subprocess.run(
                    ["script", "-qec", f"stty cols {width}; {command} --page {page}", "/dev/null"],
                    capture_output=True, text=True, timeout=60, check=True, cwd=tmp_path,
                    env={**clean, "TERM": "xterm", "NO_COLOR": ""}, stdin=subprocess.DEVNULL,
                ).stdout  # fmt: skip
                assert "\x1b[1;31msilent since" in shown
                bare = re.sub(r"\x1b\[[0-9;]*m|\r", "", shown)
                assert max(map(len, bare.splitlines())) <= width
                assert ("held by" in bare) == (width == 80)

    def test_in_a_clone_that_names_the_page(self, web: Web, tmp_path: Path) -> None:
        (tmp_path / "users").mkdir()
        with served(web) as page:
            (tmp_path / "fleet.yaml").write_text(f"format: 1\npage: {page}/\n")
            assert "gpu17" in types(tmp_path / "users").stdout
        (tmp_path / "fleet.yaml").write_text("format: 1\npage: iam\n")
        done = types(tmp_path)
        assert done.returncode == 1
        assert "page" in done.stderr
        assert "https://iam.example.org" in done.stderr

    def test_without_any_page(self, tmp_path: Path) -> None:
        done = types(tmp_path)
        assert (done.returncode, done.stdout) == (1, "")
        assert "`lxc-gpu status --page https://iam.example.org`" in done.stderr

    def test_nobody_answers(self, tmp_path: Path) -> None:
        done = types(tmp_path, "--page", f"http://127.0.0.1:{slapd.free_port()}")
        assert done.returncode == 1
        assert "can't be reached: Connection refused." in done.stderr
        assert "Traceback" not in done.stderr
        done = types(tmp_path, "--page", "http://no-such-host.invalid")
        assert "can't be reached" in done.stderr


@contextmanager
def answering(answer: Handler, context: ssl.SSLContext | None = None) -> Iterator[str]:
    """Something on a loopback port that answers whatever is asked."""

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    server.daemon_threads = True
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        scheme = "http" if context is None else "https"
        yield f"{scheme}://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def send(body: bytes, status: int = 200, **headers: str) -> Handler:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def refused(page: str) -> LxcGpuError:
    with pytest.raises(LxcGpuError) as caught:
        fleet_page.fetch(page)
    error = caught.value
    assert f"{error.message}{error.hint}".replace("\n", "").isprintable()
    assert error.hint
    return error


class TestWhatIsNoPage:
    @pytest.mark.parametrize(
        ("answer", "code"),
        [
            (send(b"<!DOCTYPE html><title>Intranet</title>"), "page-strange"),
            (send(b"There is no such page.", 404), "page-strange"),
            (send(b"", 204), "page-strange"),
            (send(b"\x1b]0;owned\x07", 403), "page-strange"),
            (send(b"[" * 100_000), "page-strange"),
            (send(b'{"format": 2, "fleet": "\\u001b[2J"}'), "page-newer"),
            (send(b"", 503), "page-failed"),
            (send(b"", 302, Location="https://login.example.org/?next=x"), "page-strange"),
            (send(b"", 302, Location="file:///etc/passwd"), "page-strange"),
            (send(b"", 302, Location="/again"), "page-strange"),
            (send(b"{}", 200, **{"Content-Length": "99999999999"}), "page-strange"),
        ],
    )
    def test_says_so(self, answer: Handler, code: str) -> None:
        with answering(answer) as page:
            assert refused(page).code == code

    def test_what_is_no_http(self) -> None:
        def babble(handler: BaseHTTPRequestHandler) -> None:
            handler.wfile.write(b"SSH-2.0-OpenSSH_9.2\r\n\x1b[2J\r\n")

        with answering(babble) as page:
            assert refused(page).code == "page-strange"

    def test_more_than_there_can_be(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("state.wire.fleet_status.LARGEST", 100_000)

        def pour(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(200)
            handler.end_headers()
            for _ in range(1000):
                handler.wfile.write(b" " * 10_000)

        with answering(pour) as page:
            assert refused(page).code == "page-strange"

    def test_who_never_ends(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(fleet_page, "PATIENCE", 1.0)

        def drip(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(200)
            handler.end_headers()
            for _ in range(1000):
                handler.wfile.write(b" ")
                time.sleep(0.1)

        with answering(drip) as page:
            began = time.monotonic()
            error = refused(page)
            assert (error.code, time.monotonic() - began < HANGS) == ("page-unreachable", True)
            assert "no answer in time" in error.message

    def test_whose_certificate_nobody_vouches_for(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        certificates = slapd.make_certificates(tmp_path, "localhost")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificates.certificate, certificates.key)
        with answering(send(b"{}"), context) as page:
            assert refused(page).code == "page-certificate"
            monkeypatch.setenv("SSL_CERT_FILE", str(certificates.ca))
            assert refused(page.replace("127.0.0.1", "localhost")).code == "page-strange"
            assert refused(page).code in ("page-certificate", "page-strange")

    def test_a_proxy_of_the_environment_is_not_asked(self, monkeypatch: pytest.MonkeyPatch) -> None:
        asked: list[str] = []

        def proxy(handler: BaseHTTPRequestHandler) -> None:
            asked.append(handler.path)
            send(b"{}")(handler)

        with answering(proxy) as address:
            monkeypatch.setenv("http_proxy", address)
            assert refused("http://no-such-host.invalid").code == "page-unreachable"
        assert not asked
