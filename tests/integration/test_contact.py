"""Nudging over real ssh: every way in which the other side can be wrong becomes words."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread
from typing import Any

import paramiko
import pytest

from state.errors import LxcGpuError
from state.model.keys import parse_key
from state.wire.messages import Answer, Message, Progress, Refusal, Report, encode
from tests.integration import sshd
from tests.integration.slapd import free_port
from tests.integration.sshd import ssh_key
from tests.patience import HANGS, eventually
from webui.servers import contact
from webui.servers.contact import Ssh, Target, UnreachableError
from webui.servers.rate_limit import TokenBucket

pytestmark = pytest.mark.skipif(bool(sshd.MISSING), reason=sshd.MISSING)
RSA = (
    "ssh-rsa "
    "AAAAB3NzaC1yc2EAAAADAQABAAABAQC0zKJ9LOFxZGSvDf5La9xyc9L+8y9R4cbqT+KwpxqVqU7sinkZ"
    "bV/nJg7cUvHX710noTBqvU8KxznSWfSe5O0bz0Y46pFxX8QHba0zxF26t1HwhKK7Tq8vHhWC/2YKhk2T"
    "oNE/JSm8vRGZAbR5Ff3Av9PSak21F3u4TLehCXJl1j5mog9D71FRyLPiDH9Mw+exz0Oz4zTpcjwVYbtB"
    "CUT3ZfwG/15verjP1bpzQKSwpHxBGOlrKMVXkdyP4NSHt0toczQtvteohAAHF54xhtZMJ0lqrmxXlsg1"
    "7Ss1f1f13Ze5941n0N0/fiFQQcHKl3P6j0illff6HuXNpNPRTIYL"
)
REPORT = Report("gpu17", "abc1234", 1.0, 0.4)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[Target, Path]]:
    """A server whose forced command is the shell script that the test writes to `answer`."""
    ssh_key(tmp_path / "stranger")
    with sshd.answering(tmp_path) as target:
        yield target, tmp_path


def nudge(target: Target, folder: Path, script: str = "", **options: Any) -> list[Message]:
    (folder / "answer").write_text(script)
    ssh = Ssh(folder / options.pop("key", "nudge"), account="root", **options)
    return list(ssh.nudge(target))


def test_progress_comes_as_it_happens_and_the_report_ends_it(server: tuple[Target, Path]) -> None:
    target, folder = server
    (folder / "lines").write_text(encode(Progress("unpacking", 0.4)) + encode(REPORT))
    script = f'test "$SSH_ORIGINAL_COMMAND" = reconcile && cat {folder}/lines; sleep 200'
    begun = time.monotonic()
    assert nudge(target, folder, script) == [Progress("unpacking", 0.4), REPORT]
    assert time.monotonic() - begun < HANGS


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ("exit 1", "nudge-garbled"),
        ("echo hello", "nudge-garbled"),
        ("""echo '{"report": {}}'""", "nudge-garbled"),
        ("head -c 3000000 /dev/zero", "nudge-garbled"),
        ("""yes '{"progress": {"text": "x"}}'""", "nudge-garbled"),
        ("kill -9 $PPID", "nudge-garbled"),
        ("sleep 60", "nudge-timeout"),
        ("""while :; do echo '{"progress": {"text": "x"}}'; sleep 0.2; done""", "nudge-timeout"),
    ],
)
def test_nonsense_ends_with_words(
    server: tuple[Target, Path], script: str, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contact, "MOST_BYTES", 2_000_000)
    with pytest.raises(UnreachableError) as caught:
        nudge(*server, script, whole_seconds=3)
    assert caught.value.code == code


def test_another_host_key_gets_nothing_from_us(server: tuple[Target, Path]) -> None:
    target, folder = server
    other = parse_key((folder / "stranger.pub").read_text())
    with pytest.raises(UnreachableError) as caught:
        nudge(replace(target, host_key=other), folder, f"touch {folder}/reached")
    assert caught.value.code == "nudge-host-key"
    assert not (folder / "reached").exists()


def test_a_host_key_of_another_kind_is_another_host_key(server: tuple[Target, Path]) -> None:
    target, folder = server
    rsa = parse_key(RSA)
    with pytest.raises(UnreachableError) as caught:
        nudge(replace(target, host_key=rsa), folder)
    assert caught.value.code == "nudge-host-key"


def test_a_server_that_does_not_know_our_key(server: tuple[Target, Path]) -> None:
    with pytest.raises(UnreachableError) as caught:
        nudge(*server, key="stranger")
    assert caught.value.code == "nudge-refused"
    assert "setup/gpu-server" in caught.value.hint


def test_our_own_key_is_gone(server: tuple[Target, Path]) -> None:
    with pytest.raises(UnreachableError) as caught:
        nudge(*server, key="no-such-key")
    assert caught.value.code == "nudge-key"


def test_nobody_there(server: tuple[Target, Path]) -> None:
    target, folder = server
    with pytest.raises(UnreachableError) as caught:
        nudge(replace(target, port=free_port()), folder)
    assert caught.value.code == "nudge-unreachable"


def test_somebody_there_who_is_silent(server: tuple[Target, Path]) -> None:
    target, folder = server
    with socket.create_server(("127.0.0.1", 0)) as silent:
        begun = time.monotonic()
        silent_target = replace(target, port=silent.getsockname()[1])
        with pytest.raises(UnreachableError) as caught:
            nudge(silent_target, folder, connect_seconds=0.5)
    assert caught.value.code == "nudge-broken"
    assert time.monotonic() - begun < HANGS


def tell(target: Target, folder: Path, answer: str) -> str:
    """What the server was asked, if it notes what it is told."""
    (folder / "line").write_text(answer)
    (folder / "answer").write_text(
        f'echo "$SSH_ORIGINAL_COMMAND" >{folder}/asked; cat {folder}/line'
    )
    Ssh(folder / "nudge", account="root").tell_accepted(target, ["0" * 12, "1" * 12])
    return (folder / "asked").read_text()


def test_a_server_is_told_which_mail_was_accepted(server: tuple[Target, Path]) -> None:
    assert tell(*server, encode(Answer("noted"))) == "told 000000000000 111111111111\n"


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (encode(Refusal("notices-damaged", "It can't be read.")), "notices-damaged"),
        (encode(REPORT), "nudge-garbled"),
        (encode(Progress("x")), "nudge-garbled"),
        ("noted", "nudge-garbled"),
        ("", "nudge-garbled"),
        (encode(Progress("x")) * 5000, "nudge-garbled"),
    ],
)
def test_nothing_but_an_answer_says_that_it_was_noted(
    server: tuple[Target, Path], answer: str, code: str
) -> None:
    with pytest.raises(LxcGpuError) as caught:
        tell(*server, answer)
    assert caught.value.code == code


def test_news_go_along_to_who_takes_them(server: tuple[Target, Path]) -> None:
    target, folder = server
    (folder / "line").write_text(encode(REPORT))
    script = f'test "$SSH_ORIGINAL_COMMAND" = news && cat >{folder}/got && cat {folder}/line'
    (folder / "answer").write_text(script)
    sent = bytes(range(256)) * 1000
    assert list(Ssh(folder / "nudge", account="root").nudge(target, sent)) == [REPORT]
    assert (folder / "got").read_bytes() == sent


@pytest.mark.parametrize("size", [10, 250_000])
def test_an_earlier_release_takes_none_and_is_asked_to_fetch(
    server: tuple[Target, Path], size: int
) -> None:
    target, folder = server
    (folder / "no").write_text(encode(Refusal("usage", "The verbs here: reconcile, load, told.")))
    (folder / "line").write_text(encode(REPORT))
    (folder / "answer").write_text(
        f"case $SSH_ORIGINAL_COMMAND in reconcile) cat {folder}/line ;; *) cat {folder}/no ;; esac"
    )
    assert list(Ssh(folder / "nudge", account="root").nudge(target, bytes(size))) == [REPORT]


LENDS = """
echo $SSH_CONNECTION $SSH_ORIGINAL_COMMAND >>{0}/sessions
case $SSH_ORIGINAL_COMMAND in
load) echo $PPID >{0}/lender; echo begun; while read -r line; do echo "$line"; done; sleep 200 ;;
*) {1} ;;
esac
"""


@contextmanager
def standing(target: Target, folder: Path, script: str) -> Iterator[tuple[Ssh, TokenBucket]]:
    """Somebody who listens to the server, which answers a nudge by `script`."""
    (folder / "line").write_text(encode(REPORT))
    (folder / "sessions").unlink(missing_ok=True)
    (folder / "answer").write_text(LENDS.format(folder, script))
    ssh, allowance = Ssh(folder / "nudge", "root", 3.0, 8.0), TokenBucket(20_000, 0)
    flood = UnreachableError("load-flood", "It sends too much.")
    with ssh.ask(target, "load", allowance, flood) as channel:
        channel.settimeout(HANGS)
        assert channel.recv(100) == b"begun\n"
        yield ssh, allowance
    assert not ssh.standing


def ports(folder: Path) -> list[str]:
    """The connection by which each session came, in their order."""
    return [line.split()[1] for line in (folder / "sessions").read_text().splitlines()]


def test_a_nudge_takes_the_connection_that_stands(server: tuple[Target, Path]) -> None:
    target, folder = server
    many = f"head -c 900000 /dev/zero | tr '\\0' ' '; cat {folder}/line"
    with standing(target, folder, many) as (ssh, allowance):
        for _ in range(3):
            assert list(ssh.nudge(target)) == [REPORT]
        assert len(set(ports(folder))) == 1
        assert not allowance.spend(20_001), "what was allowed besides is gone"


@pytest.mark.parametrize(
    "trouble", ["exit 1", "head -c 3000000 /dev/zero", "kill -9 $PPID", "hung"]
)
def test_what_stands_and_fails_is_followed_by_a_connection_of_its_own(
    server: tuple[Target, Path], trouble: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, folder = server
    monkeypatch.setattr(contact, "MOST_BYTES", 2_000_000)
    once = f"if mkdir {folder}/once; then {trouble}; else cat {folder}/line; fi"
    flood = nullcontext() if trouble == "exit 1" else suppress(UnreachableError)
    with flood, standing(target, folder, once) as (ssh, _):
        if trouble == "hung":
            (folder / "once").mkdir()
            ssh.standing[target].connected.hang_up()
        assert list(ssh.nudge(target)) == [REPORT]
        assert len(set(ports(folder))) == 2
    assert not ssh.standing


@pytest.mark.parametrize(
    ("trouble", "code"), [("exit 1", "nudge-garbled"), ("sleep 200", "nudge-timeout")]
)
def test_a_round_that_began_is_not_asked_for_again(
    server: tuple[Target, Path], trouble: str, code: str
) -> None:
    target, folder = server
    (folder / "progress").write_text(encode(Progress("unpacking")))
    begun = "" if code == "nudge-timeout" else f"cat {folder}/progress; "
    with standing(target, folder, begun + trouble) as (ssh, _):
        with pytest.raises(UnreachableError) as caught:
            list(replace(ssh, whole_seconds=2.0).nudge(target))
        assert caught.value.code == code
        assert len(ports(folder)) == 2, "the load and one round"


def test_too_much_after_the_report_does_not_undo_it(
    server: tuple[Target, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    target, folder = server
    monkeypatch.setattr(contact, "MOST_BYTES", 1_000_000)
    flooding = f"cat {folder}/line; head -c 3000000 /dev/zero"
    with suppress(UnreachableError), standing(target, folder, flooding) as (ssh, _):
        link, nudged = ssh.standing[target], ssh.nudge(target)
        assert next(nudged) == REPORT
        eventually(lambda: link.connected.overrun)
        assert list(nudged) == []
        assert len(ports(folder)) == 2, "the load and one round"


@pytest.mark.parametrize("flood", [False, True])
def test_a_nudge_outlasts_the_load_except_after_a_flood(
    server: tuple[Target, Path], flood: bool
) -> None:
    target, folder = server
    (folder / "progress").write_text(encode(Progress("unpacking")))
    waits = f"cat {folder}/progress; until test -e {folder}/go; do sleep 0.1; done"
    patient = f"{waits}; cat {folder}/line"
    with suppress(UnreachableError), standing(target, folder, patient) as (ssh, _):
        link, nudged = ssh.standing[target], ssh.nudge(target)
        assert next(nudged) == Progress("unpacking")
        raise UnreachableError("load-flood" if flood else "load-garbled", "It sends nonsense.")
    assert not ssh.standing
    (folder / "go").touch()
    with pytest.raises(UnreachableError) if flood else nullcontext():
        assert list(nudged) == [REPORT]
    assert not link.transport.is_active()
    assert len(ports(folder)) == 2, "the load and one round"


def test_a_connection_that_opens_nothing_in_time_is_left_to_the_load(
    server: tuple[Target, Path],
) -> None:
    target, folder = server
    with standing(target, folder, f"cat {folder}/line") as (ssh, _):
        link, lender = ssh.standing[target], int((folder / "lender").read_text())
        os.kill(lender, signal.SIGSTOP)
        try:
            assert list(replace(ssh, connect_seconds=1.0).nudge(target)) == [REPORT]
        finally:
            os.kill(lender, signal.SIGCONT)
        assert not ssh.standing, "the next nudge doesn't wait for it again"
        with link.transport.open_session(timeout=HANGS) as later:
            later.exec_command("reconcile")
            later.settimeout(HANGS)
            assert later.recv(65536) == encode(REPORT).encode()


class Mute(paramiko.ServerInterface):
    """A server that answers the verb `load`, and others only after `over`."""

    def __init__(self) -> None:
        self.over = Event()

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        return 0  # AUTH_SUCCESSFUL

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return 0  # OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        return command == b"load" or self.over.wait(HANGS)


def test_a_verb_that_is_not_answered_in_time_leaves_the_load_alone(
    server: tuple[Target, Path],
) -> None:
    target, folder = server
    ssh, mute = Ssh(folder / "nudge", "root", 1.0), Mute()
    flood = UnreachableError("load-flood", "It sends too much.")
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            transport = paramiko.Transport(listening.accept()[0])
            transport.add_server_key(paramiko.Ed25519Key(filename=str(folder / "host")))
            transport.start_server(server=mute)

        Thread(target=serve, daemon=True).start()
        there = replace(target, port=listening.getsockname()[1])
        with ssh.ask(there, "load", TokenBucket(20_000, 0), flood):
            link = ssh.standing[there]
            with pytest.raises(UnreachableError) as caught:
                list(ssh.nudge(there))
            mute.over.set()
            assert caught.value.code == "nudge-broken", "of a connection that nobody accepts"
            assert link.transport.is_active()
            assert not ssh.standing


def test_a_server_that_takes_one_session_only(tmp_path: Path) -> None:
    with (
        sshd.answering(tmp_path, more="MaxSessions 1") as target,
        standing(target, tmp_path, f"cat {tmp_path}/line") as (ssh, _),
    ):
        assert list(ssh.nudge(target)) == [REPORT]
        assert len(set(ports(tmp_path))) == 2


def test_a_connection_to_another_host_key_is_not_taken(server: tuple[Target, Path]) -> None:
    target, folder = server
    other = replace(target, host_key=parse_key((folder / "stranger.pub").read_text()))
    with standing(target, folder, f"cat {folder}/line") as (ssh, _):
        with pytest.raises(UnreachableError) as caught:
            list(ssh.nudge(other))
        assert caught.value.code == "nudge-host-key"
