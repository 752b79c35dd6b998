"""Listening to loads over real ssh: a server that lies, floods or hangs harms nobody."""

from __future__ import annotations

import resource
import socket
import threading
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import paramiko
import pytest
from paramiko.common import AUTH_SUCCESSFUL, OPEN_SUCCEEDED

from state.errors import LxcGpuError
from state.model.keys import parse_key
from state.wire.messages import Refusal
from state.wire.messages import encode as encode_message
from state.wire.server_load import LONGEST_LINE, ServerLoad, encode
from tests.integration import sshd
from tests.integration.sshd import ssh_key
from tests.patience import HANGS
from tests.unit.webui.monitor.small_loads import gpu, load
from webui.monitor.heard import listening, stream
from webui.monitor.heard.latest import Latest
from webui.monitor.heard.listening import Listeners
from webui.monitor.past import accounting
from webui.servers.contact import Ssh, Target

pytestmark = pytest.mark.skipif(bool(sshd.MISSING), reason=sshd.MISSING)
LINE = encode(load("gpu17", gpu(0, "ann")))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[Target, Path]]:
    (tmp_path / "line").write_text(LINE)
    with sshd.answering(tmp_path) as target:
        yield target, tmp_path


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "SHORTEST_PATIENCE", 1.0)  # until the first load
    monkeypatch.setattr(accounting, "LONGEST_PATIENCE", 1.0)


def hear(target: Target, folder: Path, script: str, seconds: float = 5) -> list[ServerLoad]:
    (folder / "answer").write_text(script)
    return list(stream.loads(Ssh(folder / "nudge", "root", seconds), target))


def error_of(target: Target, folder: Path, script: str) -> LxcGpuError:
    with pytest.raises(LxcGpuError) as caught:
        hear(target, folder, script)
    return caught.value


def test_loads_come_until_the_server_ends_the_stream(server: tuple[Target, Path]) -> None:
    target, folder = server
    script = f'test "$SSH_ORIGINAL_COMMAND" = load && cat {folder}/line {folder}/line'
    assert hear(target, folder, script) == [load("gpu17", gpu(0, "ann"))] * 2


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ("echo hello; sleep 200", "load-garbled"),
        ("""echo '{"load": {}}'; sleep 200""", "load-garbled"),
        ("sed s/20.0/NaN/ LINE; sleep 200", "load-garbled"),
        ("sed s/20.0/101/ LINE; sleep 200", "load-garbled"),
        (f"head -c {LONGEST_LINE + 1} /dev/zero; sleep 200", "load-garbled"),  # no end of a line
        ("cat /dev/zero", "load-garbled or load-flood"),
        ("while cat LINE; do :; done", "load-flood"),
        ("while :; do yes x | head -c 400000; echo; done", "load-garbled or load-flood"),
        ("sed s/gpu17/gpu18/ LINE; sleep 200", "load-other-name"),
        ("sleep 200", "load-stalled"),
        ("cat LINE; sleep 200", "load-stalled"),
        ("while sleep 0.1; do printf x; done", "load-stalled"),  # a letter a moment, and no line
        ("yes >&2", "load-stalled"),
        # as when a machine hangs
        ("cat LINE; (sleep 12; kill -CONT $PPID) & kill -STOP $PPID; sleep 200", "load-stalled"),
    ],
)
def test_whatever_else_comes_ends_with_words(
    server: tuple[Target, Path], impatient: None, script: str, code: str
) -> None:
    target, folder = server
    begun = time.monotonic()
    error = error_of(target, folder, script.replace("LINE", f"{folder}/line"))
    assert error.code in code.split(" or ")
    assert error.hint
    assert "gpu17" in error.message
    assert time.monotonic() - begun < HANGS


def test_a_server_that_is_older_does_not_know_the_verb(server: tuple[Target, Path]) -> None:
    target, folder = server
    (folder / "no").write_text(encode_message(Refusal("usage", "The verbs here: reconcile.")))
    error = error_of(target, folder, f"cat {folder}/no")
    assert error.code == "load-unknown"
    assert "setup/gpu-server" in error.hint


def test_a_server_that_says_why_it_can_not_is_quoted(server: tuple[Target, Path]) -> None:
    target, folder = server
    (folder / "no").write_text(encode_message(Refusal("no-proc", "/proc is hidden.", "Show it.")))
    error = error_of(target, folder, f"cat {folder}/no")
    assert (error.code, error.message, error.hint) == ("no-proc", "/proc is hidden.", "Show it.")


Act = Callable[[paramiko.Transport, paramiko.Channel], None]


class Hostile(paramiko.ServerInterface):
    """Lets us in, and then does with us what no sshd would."""

    def __init__(self, answers: bool) -> None:
        self.answers = answers
        self.asked = threading.Event()
        self.over = threading.Event()

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_auth_publickey(self, username: str, key: object) -> int:
        return AUTH_SUCCESSFUL

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: object, command: bytes) -> bool:
        self.asked.set()
        if not self.answers:
            self.over.wait(30)
        return True


@pytest.fixture
def hostile(tmp_path: Path) -> Iterator[Callable[..., Target]]:
    """A server of our own making: called with what it does, it gives the target."""
    host = ssh_key(tmp_path / "host")
    ssh_key(tmp_path / "nudge")
    listening_socket = socket.create_server(("127.0.0.1", 0))
    ended = []

    def made(answers: bool, act: Act, exchanges: tuple[str, ...] = ()) -> Target:
        interface = Hostile(answers)
        ended.append(interface.over)

        def serve() -> None:
            transport = paramiko.Transport(listening_socket.accept()[0])
            transport.add_server_key(paramiko.Ed25519Key.from_private_key_file(tmp_path / "host"))
            if exchanges:
                transport.get_security_options().kex = exchanges
            try:
                transport.start_server(server=interface)
            except paramiko.SSHException:
                return
            channel = transport.accept(10)
            interface.asked.wait(10)
            try:
                if channel:
                    act(transport, channel)
            except (OSError, EOFError, paramiko.SSHException):
                interface.over.set()

        threading.Thread(target=serve, daemon=True).start()
        return Target("gpu17", "127.0.0.1", listening_socket.getsockname()[1], parse_key(host))

    yield made
    listening_socket.close()
    for each in ended:
        each.set()


def test_a_server_that_answers_neither_yes_nor_no(
    hostile: Callable[..., Any], tmp_path: Path
) -> None:
    target = hostile(False, lambda *_: None)
    begun = time.monotonic()
    with pytest.raises(LxcGpuError) as caught:
        hear(target, tmp_path, "", seconds=1)
    assert caught.value.code == "nudge-broken"
    assert time.monotonic() - begun < HANGS


def outside_the_window(transport: paramiko.Transport, channel: paramiko.Channel) -> None:
    message = paramiko.Message()
    message.add_byte(bytes([94]))  # SSH_MSG_CHANNEL_DATA
    message.add_int(channel.remote_chanid)
    message.add_string(b"x" * 30_000)
    while True:
        transport._send_message(message)  # type: ignore[attr-defined]


def errors_nobody_reads(transport: paramiko.Transport, channel: paramiko.Channel) -> None:
    message = paramiko.Message()
    message.add_byte(bytes([95]))  # SSH_MSG_CHANNEL_EXTENDED_DATA
    message.add_int(channel.remote_chanid)
    message.add_int(1)
    message.add_string(b"x" * 30_000)
    while True:
        transport._send_message(message)  # type: ignore[attr-defined]


def nothing_at_all(transport: paramiko.Transport, channel: paramiko.Channel) -> None:
    while True:
        transport.send_ignore(1000)


@pytest.mark.parametrize("act", [outside_the_window, errors_nobody_reads, nothing_at_all])
def test_what_no_sshd_would_send_is_cut_off(
    hostile: Callable[..., Any], tmp_path: Path, act: Act
) -> None:
    target = hostile(True, act)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begun = time.monotonic()
    with pytest.raises(LxcGpuError) as caught:
        hear(target, tmp_path, "")
    assert caught.value.code in ("load-flood", "load-garbled")
    assert time.monotonic() - begun < HANGS
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 20_000  # KiB, of both sides


@pytest.mark.parametrize(
    "exchange", ["diffie-hellman-group16-sha512", "diffie-hellman-group14-sha256"]
)
def test_no_server_has_us_compute_in_python(
    hostile: Callable[..., Any], tmp_path: Path, exchange: str
) -> None:
    target = hostile(True, lambda *_: None, (exchange,))
    with pytest.raises(LxcGpuError) as caught:
        hear(target, tmp_path, "")
    assert caught.value.code == "nudge-broken"
    assert "no acceptable kex algorithm" in caught.value.details


def wait_for(true: Callable[[], bool], seconds: float = HANGS) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_servers_come_go_fall_silent_and_speak_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "FIRST_PAUSE", 0.2)
    monkeypatch.setattr(listening, "LONGEST_PAUSE", 0.5)
    targets: dict[str, Target] = {}
    latest = Latest()
    folders = {name: tmp_path / name for name in ("gpu17", "gpu18")}
    for name, folder in folders.items():
        folder.mkdir()
        (folder / "line").write_text(LINE.replace("gpu17", name))
        (folder / "answer").write_text(f"while cat {folder}/line; do sleep 1; done")

    def contact(target: Target) -> Generator[ServerLoad, None, None]:
        return stream.loads(Ssh(folders[target.name] / "nudge", "root"), target)

    listeners = Listeners(lambda: targets, contact, latest, latest.post)
    listeners.watch(0.1)

    def speaks(name: str) -> bool:
        seen = latest.all().get(name)
        return seen is not None and seen.load is not None and seen.silent_since is None

    try:
        with sshd.answering(folders["gpu17"], "gpu17") as gpu17:
            with sshd.answering(folders["gpu18"], "gpu18") as gpu18:
                targets.update(gpu17=gpu17, gpu18=gpu18)
                wait_for(lambda: speaks("gpu17") and speaks("gpu18"))
                (folders["gpu18"] / "answer").write_text("cat /dev/zero")
            connected = [t for t in threading.enumerate() if t.name == "load gpu18"]
            assert connected
            targets.pop("gpu18")
            wait_for(lambda: "gpu18" not in latest.all())
            wait_for(lambda: not connected[0].is_alive())
            assert speaks("gpu17")
            (folders["gpu17"] / "line").write_text("nonsense\n")
            wait_for(lambda: not speaks("gpu17"))
            seen = latest.all()["gpu17"]
            assert seen.load is not None
            assert "understand" in seen.why
            (folders["gpu17"] / "line").write_text(LINE)
            wait_for(lambda: speaks("gpu17"))
    finally:
        listeners.stop()
