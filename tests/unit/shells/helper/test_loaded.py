"""The root helper that is loaded already: when it does a request, and when it leaves it alone."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from select import select
from threading import Thread

import pytest

from shells.helper import hand_over
from shells.helper.hand_over import BEGUN, GO, READY, handed_over
from state.command import environment
from tests.patience import eventually

ROOT = Path(__file__).parents[4]
UNITS = ROOT / "setup" / "units"
ROOTS = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: others are left alone")
SERVES = """
import sys
sys.path.insert(0, sys.argv[1])
from shells.helper import loaded
loaded.SOCKET, loaded.PATIENCE = sys.argv[2], 60
{}
loaded.main(["/release"])
"""
ASKS = """
import sys
sys.path.insert(0, sys.argv[1])
from shells.helper import hand_over
hand_over.SOCKET, hand_over.PATIENCE = sys.argv[2], 60
status = hand_over.handed_over("/release", "unit")
print("not taken" if status is None else f"ended with {status}", file=sys.stderr)
"""


def asked(place: Path, *prefix: str, request: bytes = b"") -> tuple[str, str]:
    """What the request is answered, and what its process says, which `prefix` starts."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(request)
        ours.shutdown(socket.SHUT_WR)
        words = [*prefix, sys.executable, "-c", ASKS, str(ROOT), str(place)]
        done = subprocess.run(
            words,
            stdin=theirs.fileno(),
            stdout=theirs.fileno(),
            stderr=subprocess.PIPE,
            text=True,
            check=True,
            env=environment(),
        )
        theirs.close()
        return ours.makefile().read(), done.stderr.splitlines()[-1]


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


@contextmanager
def served(place: Path, *prefix: str, extra: str = "") -> Iterator[subprocess.Popen[bytes]]:
    """One that is loaded, which `prefix` starts, and which does something `extra` first."""
    words = [*prefix, sys.executable, "-c", SERVES.format(extra), str(ROOT), str(place)]
    with subprocess.Popen(words, env=environment()) as child:
        try:
            eventually(place.exists)
            yield child
        finally:
            child.kill()


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where one that is loaded is asked."""
    place = tmp_path_factory.mktemp("loaded") / "socket"
    with served(place):
        yield place


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
    def test_it_is_for_root_alone(self, serving: Path) -> None:
        assert serving.stat().st_mode & 0o777 == 0o600

    def test_a_request_of_another_release_is_not_its_own(
        self, serving: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(hand_over, "SOCKET", str(serving))
        assert handed_over("/another", "unit") is None

    @ROOTS
    def test_a_request_is_done_and_its_answer_goes_where_it_came_from(self, serving: Path) -> None:
        answer, said = asked(serving, request=b"\n")
        assert '"refusal"' in answer
        assert said == "ended with 1"

    @ROOTS
    @pytest.mark.parametrize(
        "prefix",
        [
            "env TZ=Asia/Tokyo", "nice -n 1", "choom -n 7 --", "chrt --batch 0",
            "prlimit --nofile=99", "setpriv --no-new-privs", "unshare --uts",
        ],
    )  # fmt: skip
    def test_not_for_who_is_held_otherwise(self, serving: Path, prefix: str) -> None:
        assert asked(serving, *prefix.split()) == ("", "not taken")

    @ROOTS
    def test_what_systemd_sets_for_each_process_is_no_difference(self, serving: Path) -> None:
        _, said = asked(serving, "env", "INVOCATION_ID=7", "LISTEN_FDS=1", "REMOTE_ADDR=@")
        assert said == "ended with 0"

    @ROOTS
    def test_it_follows_the_server_s_time_zone(self, place: Path) -> None:
        zones, zone = Path("/usr/share/zoneinfo"), place.parent / "zone"
        zone.write_bytes((zones / "UTC").read_bytes())
        mount = 'mount --bind "$0" /etc/localtime; exec env -u PWD "$@"'
        mounts = ["unshare", "--mount", "sh", "-ec", mount]
        tells = "import time; loaded.root.main = lambda _: time.localtime(0).tm_hour"
        with served(place, *mounts, str(zone), extra=tells) as child:
            there = ["nsenter", "--mount", f"--target={child.pid}"]
            assert asked(place, *there) == ("", "ended with 0")
            zone.write_bytes((zones / "Asia/Tokyo").read_bytes())
            os.utime(zone, (1, 1))  # libc looks at whole seconds
            assert asked(place, *there) == ("", "ended with 9")

    @ROOTS
    def test_packages_may_add_folders_of_theirs(self, place: Path) -> None:
        packages = place.parent / "packages"
        (packages / "adds/__pycache__").mkdir(parents=True)
        (packages / "adds/__init__.py").write_text("import sys; sys.path.append('/usr/share')")
        finds = f"sys.path.append({str(packages)!r}); loaded.OFTEN = ('adds',)"
        with served(place, extra=finds):
            assert asked(place)[1] == "ended with 0"

    @ROOTS
    def test_a_program_of_its_own_that_fails_is_no_success(self, place: Path) -> None:
        """As each is to subprocess where SIGCHLD is ignored: half a list of rules, for example."""
        noted = place.parent / "noted"
        runs = f"""
from pathlib import Path
from state import command
def remember(seconds):
    Path({str(noted)!r}).write_text(str(command.run(["false"], check=False).status))
loaded.remember = remember
"""
        with served(place, extra=runs):
            asked(place)
            noted.unlink(missing_ok=True)
            asked(place)
            eventually(lambda: noted.exists() and noted.read_text() == "1")

    @ROOTS
    def test_who_says_nothing_or_nonsense_keeps_nobody_waiting_and_leaves_nothing(
        self, place: Path
    ) -> None:
        def connected() -> socket.socket:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            connection.connect(str(place))
            return connection

        nonsense = (b"/release\nunit", b"\xff", b"", b"x" * 9000)
        with served(place) as child:
            asked(place)
            process = Path(f"/proc/{child.pid}")
            before = len([*(process / "fd").iterdir()])
            silent = [connected() for _ in range(20)]
            for words, sent in product(nonsense, (1, 3, 99)):
                with connected() as connection:
                    socket.send_fds(connection, [words], [2] * sent)
                    if words != nonsense[0] or sent < 3:
                        assert connection.recv(9) == b"", (words, sent)
            assert asked(place)[1] == "ended with 0"
            for each in silent:
                each.close()
            eventually(lambda: not (process / f"task/{child.pid}/children").read_text())
            eventually(lambda: len([*(process / "fd").iterdir()]) == before)

    def test_it_ends_when_packages_were_installed(self, place: Path) -> None:
        packages = place.parent / "packages"
        packages.mkdir()
        with served(place, extra=f"sys.path.append({str(packages)!r})") as child:
            (packages / "another").touch()
            eventually(lambda: handed_over("/release", "unit") is None and child.poll() == 0)


def test_its_unit_filters_system_calls_as_the_requests_do() -> None:
    """Children of it inherit those, whatever unit they are in later."""
    words = ("Environment=", "RestrictAddressFamilies=", "LockPersonality=", "RestrictRealtime=",
             "SystemCall", "NoNewPrivileges=", "Protect", "Private",
             "CapabilityBoundingSet=")  # fmt: skip

    def filters(name: str) -> set[str]:
        lines = (UNITS / name).read_text().splitlines()
        return {line for line in lines if line.startswith(words)}

    assert filters("lxc-gpu-loaded.service") == filters("lxc-gpu-root@.service") != set()


def test_its_socket_goes_with_it() -> None:
    """So that stopped, or taken away by `setup/gpu-server --undo`, it leaves nothing behind."""
    unit = (UNITS / "lxc-gpu-loaded.service").read_text()
    assert f"ExecStopPost=/bin/rm -f {hand_over.SOCKET}\n" in unit
