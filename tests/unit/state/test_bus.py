"""Calls of systemd's methods, as bytes, and against a systemd that ends in every way."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from state import bus
from state.bus import Call, Variant, packed, unit_path, unpacked
from state.errors import LxcGpuError
from tests.unit.systemd import reply

TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40)
BY_KIND: dict[str, st.SearchStrategy[Any]] = {
    "y": st.integers(0, 255), "b": st.booleans(), "i": st.integers(-(1 << 31), (1 << 31) - 1),
    "u": st.integers(0, (1 << 32) - 1), "t": st.integers(0, (1 << 64) - 1), "s": TEXTS,
    "o": st.just("/org/x"), "g": st.sampled_from(["", "a(sv)"]),
}  # fmt: skip
VARIANTS = st.sampled_from(sorted(BY_KIND)).flatmap(
    lambda kind: BY_KIND[kind].map(lambda value: Variant(kind, value))
)
OF_ALL = "".join(BY_KIND) + "va(sv)a(sa(sv))atay"
VALUES = st.tuples(
    *BY_KIND.values(),
    VARIANTS,
    st.lists(st.tuples(TEXTS, VARIANTS), max_size=3),
    st.lists(
        st.tuples(TEXTS, st.lists(st.tuples(TEXTS, VARIANTS), max_size=2)), max_size=2
    ),
    st.lists(BY_KIND["t"], max_size=3),
    st.lists(BY_KIND["y"], max_size=3),
)  # fmt: skip


@given(VALUES)
def test_values_arrive_as_they_were_sent(values: tuple[Any, ...]) -> None:
    assert unpacked(OF_ALL, packed(OF_ALL, values)) == list(values)


def test_bytes_are_those_of_the_specification() -> None:
    """Its examples: an empty array of 64 bits, and a string ("Summary of D-Bus marshalling")."""
    assert packed("u", [1]) in (b"\1\0\0\0", b"\0\0\0\1")
    assert packed("sut", ("foo", 3, 4)).hex(" ") == (
        "03 00 00 00 66 6f 6f 00 03 00 00 00 00 00 00 00 04 00 00 00 00 00 00 00"
    )
    assert packed("at", [[]]) == bytes(8)


def test_objects_of_units() -> None:
    unit = unit_path("lxc-gpu@lqchen.service")
    assert unit == "/org/freedesktop/systemd1/unit/lxc_2dgpu_40lqchen_2eservice"


@pytest.mark.parametrize("cut", [b"", b"\1", b"l\2\0\1"])
def test_bytes_that_are_cut_off_are_no_values(cut: bytes) -> None:
    with pytest.raises((IndexError, struct.error)):
        unpacked("ut", cut)


Systemd = Callable[[Callable[[socket.socket], object]], None]
ASKED = Call("/x", "org.x", "Get", "ss", ("a", "b"))


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Systemd:
    """Has one connection answered so."""
    monkeypatch.setattr(bus, "SOCKET", str(tmp_path / "private"))
    monkeypatch.setattr(bus, "AWAY", 0.1)

    def begin(answer: Callable[[socket.socket], object]) -> None:
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(str(tmp_path / "private"))
        listening.listen()

        def serve() -> None:
            with listening, listening.accept()[0] as connection:
                answer(connection)

        Thread(target=serve, daemon=True).start()

    return begin


def says(*pieces: bytes) -> Callable[[socket.socket], None]:
    """Hears what is asked, and says that."""

    def answer(connection: socket.socket) -> None:
        connection.recv(1 << 16)
        for piece in pieces:
            connection.sendall(piece)
        if b"OK" in b"".join(pieces):
            connection.recv(1 << 16)  # the calls, which come then

    return answer


def test_answers_come_in_any_order_and_in_pieces(systemd: Systemd) -> None:
    said = b"DATA\r\nOK 1234\r\n" + reply(7, 4, "s", "a signal")
    said += reply(2, 2, "v", Variant("t", 5)) + reply(1, 2, "o", "/job")

    systemd(says(*(bytes([byte]) for byte in said)))
    assert bus.called(ASKED, ASKED) == [["/job"], [Variant("t", 5)]]


def removed(job: str, result: str) -> bytes:
    """What systemd tells everybody when a job has ended (org.freedesktop.systemd1(5))."""
    return reply(0, 4, "uoss", 7, job, "x.service", result, member="JobRemoved")


def test_a_job_is_waited_for_among_others(systemd: Systemd) -> None:
    other = reply(0, 4, "s", "a signal", member="Other")
    said = b"DATA\r\nOK 1\r\n" + removed("/job/1", "done") + reply(1, 2, "o", "/job/2") + other
    systemd(says(said, removed("/job/1", "done"), removed("/job/2", "failed")))
    assert bus.done(ASKED, 60) == "failed"


def test_a_job_that_does_not_end(systemd: Systemd) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:

        def begins(connection: socket.socket) -> None:
            says(b"OK 1\r\n" + reply(1, 2, "o", "/job"), removed("/other", "done"))(connection)
            theirs.recv(1)

        systemd(begins)
        assert bus.done(ASKED, 0.2) == bus.LATE


def test_a_refusal_says_why(systemd: Systemd) -> None:
    systemd(says(b"DATA\r\nOK 1\r\n" + reply(1, 3, "s", "No such unit.")))
    with pytest.raises(LxcGpuError, match="No such unit"):
        bus.called(ASKED)


@pytest.mark.parametrize(
    "said",
    [b"", b"REJECTED\r\n", b"OK 1\r\n", b"OK 1\r\n" + bytes(64), b"OK 1\r\nl" + b"\xff" * 99],
)
def test_no_answer(systemd: Systemd, said: bytes) -> None:
    systemd(says(said))
    with pytest.raises(LxcGpuError, match="does not answer"):
        bus.called(ASKED)


def test_nobody_there(systemd: Systemd) -> None:
    with pytest.raises(LxcGpuError, match="does not answer"):
        bus.called(ASKED)


def test_a_systemd_that_hangs(systemd: Systemd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bus, "PATIENCE", 0.1)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        systemd(lambda _: theirs.recv(1))
        with pytest.raises(LxcGpuError, match="does not answer"):
            bus.called(ASKED)


def test_nothing_asked_is_nothing_answered() -> None:
    assert bus.called() == []
