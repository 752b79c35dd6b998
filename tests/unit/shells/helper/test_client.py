"""The asker's end of the root helper's socket, against a socket that ends in every way."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import pytest

from shells.helper import ahead, client
from shells.helper.request import OF_USERS, Request
from shells.usage import Verb
from state.errors import LxcGpuError, Remedy
from state.wire import messages


@pytest.fixture
def helper(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Callable[[socket.socket], object]], None]:
    """Has connections answered so, one after the other, as systemd or the root helper does."""
    for module in (ahead, client):
        monkeypatch.setattr(module, "ROOT_SOCKET", str(tmp_path / "root.sock"))
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(tmp_path / "root.sock"))
    listening.listen()

    def begin(*answers: Callable[[socket.socket], object]) -> None:
        def serve() -> None:
            with listening:
                for answer in answers:
                    with listening.accept()[0] as connection:
                        answer(connection)

        Thread(target=serve, daemon=True).start()

    return begin


def _ask() -> messages.Answer | messages.Question | messages.Report:
    return client.ask(Request(Verb.STATUS), lambda _: None)


def test_an_answer_in_pieces(helper: Callable[[Callable[[socket.socket], object]], None]) -> None:
    def answer(connection: socket.socket) -> None:
        connection.recv(4096)
        said = messages.encode(messages.Progress("on it")) + messages.encode(messages.Answer("é"))
        for byte in said.encode():
            connection.send(bytes([byte]))

    helper(answer)
    assert _ask() == messages.Answer("é")


def test_every_verb_that_is_connected_for_ahead_asks() -> None:
    assert set(ahead.OFTEN) <= OF_USERS


@pytest.mark.parametrize(
    ("argv", "original", "connects"),
    [
        (["-c", "lxc-gpu"], None, True), (["-c", "lxc-gpu"], "status --json", True),
        (["-c", "lxc-gpu"], "help", False), (["-c", "scp -t ."], None, False), ([], None, True),
    ],
)  # fmt: skip
def test_the_first_question_goes_over_the_connection_made_ahead(
    helper: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    argv: list[str],
    original: str | None,
    connects: bool,
) -> None:
    monkeypatch.delenv("SSH_ORIGINAL_COMMAND", raising=False)
    if original is not None:
        monkeypatch.setenv("SSH_ORIGINAL_COMMAND", original)
    answers = iter(["first", "second"])

    def answer(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(messages.encode(messages.Answer(next(answers))).encode())

    helper(answer, answer)
    ahead.connect_ahead(argv)
    assert len(ahead._connected) == connects
    assert [_ask(), _ask()] == [messages.Answer("first"), messages.Answer("second")]


def test_a_helper_that_waited_long_enough_is_asked_afresh(helper: Callable[..., None]) -> None:
    """It ends before this program is loaded, so it began nothing."""

    def answer(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(messages.encode(messages.Answer("afresh")).encode())

    helper(lambda connection: None, answer)
    ahead.connect_ahead(["-c", "status"])
    assert ahead._connected[0].recv(1) == b""
    assert _ask() == messages.Answer("afresh")


def test_where_nothing_can_be_connected_to_the_question_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (ahead, client):
        monkeypatch.setattr(module, "ROOT_SOCKET", str(tmp_path / "none"))
    ahead.connect_ahead(["-c", "status"])
    with pytest.raises(LxcGpuError, match="can't be reached"):
        _ask()


def test_who_only_looks_waits_for_a_place(
    helper: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "SOON", 0.01)

    def says(message: messages.Message) -> Callable[[socket.socket], object]:
        def answer(connection: socket.socket) -> None:
            connection.recv(4096)
            connection.sendall(messages.encode(message).encode())

        return answer

    busy, other = (messages.Refusal(code, "No.") for code in ("busy", "not-registered"))
    looks = Request(Verb.STATUS)
    helper(says(busy), says(busy), says(messages.Answer("at last")), says(busy), says(other))
    assert client.ask_until_free(looks, print, 60) == messages.Answer("at last")
    with pytest.raises(LxcGpuError, match="No") as caught:
        client.ask_until_free(looks, print, 60)
    assert caught.value.code == "not-registered"


def test_turned_away_unread_is_told_from_work_that_died(
    helper: Callable[[Callable[[socket.socket], object]], None],
) -> None:
    """D4: who closes with a request unread (MaxConnections=, systemd.socket(5)) began nothing."""

    def turn_away(connection: socket.socket) -> None:
        connection.recv(1, socket.MSG_PEEK)

    helper(turn_away)
    with pytest.raises(LxcGpuError, match="Yours was not begun") as refused:
        _ask()
    assert (refused.value.code, refused.value.remedy) == ("busy", Remedy.WAIT)


def test_work_that_died(helper: Callable[[Callable[[socket.socket], object]], None]) -> None:
    helper(lambda connection: connection.recv(4096))
    with pytest.raises(LxcGpuError, match="ended without an answer"):
        _ask()


@contextmanager
def _stdout_nobody_reads() -> Iterator[None]:
    ours, theirs = os.pipe()
    kept = os.dup(client.STDOUT)
    os.dup2(theirs, client.STDOUT)
    os.close(theirs)
    os.close(ours)
    try:
        yield
    finally:
        os.dup2(kept, client.STDOUT)
        os.close(kept)


def test_nobody_hears_the_answer(
    helper: Callable[[Callable[[socket.socket], object]], None],
) -> None:
    """D6: it hangs up, so that the helper notices, though neither side says anything."""
    hung_up = []

    def work(connection: socket.socket) -> None:
        connection.recv(4096)
        hung_up.append(connection.recv(1))

    helper(work)
    with _stdout_nobody_reads(), pytest.raises(BrokenPipeError):
        _ask()
