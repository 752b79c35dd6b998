"""The root helper that is loaded already: when it does a request, and when it leaves it alone."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from select import select
from threading import Thread

import pytest

from shells.helper import hand_over
from shells.helper.hand_over import BEGUN, GO, READY, handed_over
from tests.patience import eventually

ROOT = Path(__file__).parents[4]
UNITS = ROOT / "setup" / "units"
SERVES = """
import sys
sys.path.insert(0, sys.argv[1])
from shells.helper import loaded
loaded.SOCKET = sys.argv[2]
loaded.main(["/release"])
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where it is asked in this test."""
    monkeypatch.setattr(hand_over, "SOCKET", str(tmp_path / "socket"))
    return tmp_path / "socket"


def answering(place: Path, answer: Callable[[socket.socket], None]) -> Thread:
    """Somebody at that place who answers one request so."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(str(place))
    listener.listen()

    def serve() -> None:
        with listener, listener.accept()[0] as connection:
            message, descriptors, _, _ = socket.recv_fds(connection, 1024, 3)
            for each in descriptors:
                os.close(each)
            assert (message, len(descriptors)) == (b"/release\nunit", 3)
            answer(connection)

    thread = Thread(target=serve)
    thread.start()
    return thread


class TestHandedOver:
    def test_not_where_nobody_listens(self, place: Path) -> None:
        assert handed_over("/release", "unit") is None

    def test_not_under_the_unit_of_an_earlier_release(self) -> None:
        """It names itself to nobody: an upgrade puts the executable in its place first."""
        assert handed_over("/release") is None

    def test_not_to_who_is_not_ready(self, place: Path) -> None:
        thread = answering(place, lambda connection: None)
        assert handed_over("/release", "unit") is None
        thread.join()

    def test_not_to_who_hangs_and_that_one_never_begins(
        self, place: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(hand_over, "PATIENCE", 0.1)
        heard = list[bytes]()
        thread = answering(place, lambda connection: heard.append(connection.recv(9)))
        assert handed_over("/release", "unit") is None
        thread.join()
        assert heard == [b""]

    @pytest.mark.parametrize(("said", "status"), [(b"\0", 0), (b"\1", 1), (b"", 1)])
    def test_its_status_is_the_request_s(self, place: Path, said: bytes, status: int) -> None:
        """Nothing said: it died at work, and what was begun isn't begun again."""

        def answer(connection: socket.socket) -> None:
            connection.send(READY)
            assert connection.recv(9) == GO
            connection.send(BEGUN)
            if said:
                connection.send(said)

        thread = answering(place, answer)
        assert handed_over("/release", "unit") == status
        thread.join()

    @pytest.mark.parametrize("hears", [True, False])
    def test_not_to_who_gave_up_before_it_began(self, place: Path, hears: bool) -> None:
        """It waits only so long for "go", which may come at that moment: read, or left unread."""

        def answer(connection: socket.socket) -> None:
            connection.send(READY)
            select([connection], [], [])
            if hears:
                assert connection.recv(9) == GO

        thread = answering(place, answer)
        assert handed_over("/release", "unit") is None
        thread.join()


class TestLoaded:
    @pytest.fixture
    def serving(self, place: Path) -> Iterator[Path]:
        child = subprocess.Popen([sys.executable, "-c", SERVES, str(ROOT), str(place)])
        eventually(place.exists)
        yield place
        child.kill()
        child.wait()

    def test_it_is_for_root_alone(self, serving: Path) -> None:
        assert serving.stat().st_mode & 0o777 == 0o600

    def test_a_request_of_another_release_is_not_its_own(self, serving: Path) -> None:
        assert handed_over("/another", "unit") is None


def test_its_unit_filters_system_calls_as_the_requests_do() -> None:
    """Children of it inherit those, whatever unit they are in later."""
    words = ("RestrictAddressFamilies=", "LockPersonality=", "RestrictRealtime=", "SystemCall",
             "NoNewPrivileges=", "Protect", "Private", "CapabilityBoundingSet=")  # fmt: skip

    def filters(name: str) -> set[str]:
        lines = (UNITS / name).read_text().splitlines()
        return {line for line in lines if line.startswith(words)}

    assert filters("lxc-gpu-loaded.service") == filters("lxc-gpu-root@.service") != set()
