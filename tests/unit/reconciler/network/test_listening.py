"""Whether anything listens at a port in a container: real sockets, in real namespaces."""

from __future__ import annotations

import errno
import os
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from reconciler.network import listening
from reconciler.network.listening import Listening, is_one
from tests.patience import eventually

ROOTS = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it makes network namespaces")
PROGRAM = """
import errno, os, socket, sys
{}
print(flush=True)
sys.stdin.read()
"""
SERVES = """
server = socket.socket(getattr(socket, sys.argv[1]))
try:
    server.bind((sys.argv[2], int(sys.argv[3])))
    if sys.argv[4:]:
        server.listen()
except OSError as error:  # the machine's own sshd listens there
    assert error.errno == errno.EADDRINUSE
"""
FLOODS = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
kept = []
for _ in range(3000):
    kept.append(socket.socket())
    kept[-1].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    kept[-1].bind(("0.0.0.0", int(sys.argv[1])))
    kept[-1].listen()
"""
"""A container that has more to tell than anybody wants to hear."""
COVERS = """
import subprocess
for each in ("/proc", "/sys", "/tmp"):
    subprocess.run(["mount", "-t", "tmpfs", "none", each], check=True)
os.mkdir("/proc/self"), os.mkdir("/proc/self/ns"), os.symlink("/etc/passwd", "/proc/self/ns/net")
"""
"""A container that puts other files where the look finds its own."""


@contextmanager
def _container(*argv: str, does: str = SERVES, own: tuple[str, ...] = ("--net",)) -> Iterator[str]:
    """The process id of something whose only child does what `does` says."""
    python = ["/usr/bin/python3", "-IS", "-c", PROGRAM.format(does), *argv]
    with subprocess.Popen(
        ["unshare", "--fork", *own, *python], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as monitor:
        assert monitor.stdout is not None
        monitor.stdout.readline()
        yield str(monitor.pid)
        assert monitor.stdin is not None
        monitor.stdin.close()


def _namespaces(of: str = "") -> dict[str, Path]:
    """The namespaces of this process, or of one of its threads, by kind."""
    return {each.name: each.readlink() for each in Path(f"/proc/self/{of}ns").iterdir()}


def listens(monitor: str, port: int) -> bool:
    """What is seen at the first look, and at the second one."""
    look = Listening(monitor, port)
    first = look()
    assert look() == first
    look.close()
    return first


@ROOTS
class TestListens:
    """What the start asks the kernel."""

    @pytest.mark.parametrize("family", [("AF_INET", "0.0.0.0"), ("AF_INET6", "::")])
    def test_an_sshd_is_seen_before_anything_is_sent_to_it(self, family: tuple[str, str]) -> None:
        with _container(*family, "22", "listen") as monitor:
            assert listens(monitor, 22)

    def test_another_port_or_one_that_is_only_taken_is_none(self) -> None:
        with _container("AF_INET", "0.0.0.0", "2222", "listen") as monitor:
            assert listens(monitor, 2222)
            assert not listens(monitor, 22)
        with _container("AF_INET", "0.0.0.0", "22") as monitor:
            assert not listens(monitor, 22)

    def test_the_server_s_own_sshd_is_not_the_container_s(self) -> None:
        """lxc-start's child begins in the server's network."""
        with _container("AF_INET", "127.0.0.22", "22", "listen", own=()) as monitor:
            assert not listens(monitor, 22)

    def test_it_is_seen_as_soon_as_it_begins_and_another_network_is_another_one(self) -> None:
        """A container's `reboot` begins another init, while lxc-start goes on."""
        own = ["unshare", "--net", "/usr/bin/python3", "-IS", "-c", PROGRAM.format(SERVES)]
        again = f"""
import subprocess
for more in ([], ["listen"]):
    words = {own!r} + ["AF_INET", "0.0.0.0", "22", *more]
    running = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    running.stdout.readline(), print(flush=True), sys.stdin.readline()
    running.kill(), running.wait()
"""
        words = ["/usr/bin/python3", "-IS", "-c", PROGRAM.format(again)]
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as monitor:
            assert monitor.stdin is not None
            assert monitor.stdout is not None
            look = Listening(str(monitor.pid), 22)
            monitor.stdout.readline()
            assert not look()
            monitor.stdin.write(b"\n")
            monitor.stdin.flush()
            monitor.stdout.readline()
            assert look()
            monitor.stdin.close()

    def test_what_has_ended_listens_no_more(self) -> None:
        with _container("AF_INET", "0.0.0.0", "22", "listen") as monitor:
            pass
        eventually(lambda: not listens(monitor, 22))
        assert not listens("0", 22)

    def test_where_the_kernel_cant_be_asked_whoever_listens_has_to_say_so(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with _container("AF_INET", "0.0.0.0", "2222", "listen") as monitor:
            monkeypatch.setattr(listening, "_SOCK_DIAG", 99)
            assert listens(monitor, 22)


@ROOTS
class TestAttacks:
    """A hostile container can do nothing to who looks."""

    def test_who_looks_stays_where_it_is(self) -> None:
        """One thread enters, its network only, and is gone afterwards."""
        before, entered = _namespaces(), list[dict[str, Path]]()
        was_made = socket.socket.__init__

        def made(self: socket.socket, *words: object, **more: object) -> None:
            entered.append(_namespaces(f"task/{threading.get_native_id()}/"))
            was_made(self, *words, **more)  # type: ignore[arg-type]

        own = ("--net", "--mount", "--uts", "--ipc", "--user", "--map-root-user")
        with _container("AF_INET", "0.0.0.0", "22", "listen", own=own) as monitor:
            socket.socket.__init__ = made  # type: ignore[method-assign]
            try:
                assert listens(monitor, 22)
            finally:
                socket.socket.__init__ = was_made  # type: ignore[method-assign]
        for inside in entered:
            assert {kind for kind, link in before.items() if inside[kind] != link} == {"net"}
        assert entered
        assert _namespaces() == before
        assert len([*Path("/proc/self/task").iterdir()]) == threading.active_count()

    def test_other_files_in_its_places_lead_nowhere(self) -> None:
        with _container(does=COVERS, own=("--net", "--mount")) as monitor:
            assert not listens(monitor, 22)

    def test_thousands_of_sockets_are_one_answer(self) -> None:
        descriptors = len([*Path("/proc/self/fd").iterdir()])
        with _container("22", does=FLOODS) as monitor:
            assert listens(monitor, 22)
            assert not listens(monitor, 23)
        assert len([*Path("/proc/self/fd").iterdir()]) == descriptors


def test_an_answer_is_a_socket_or_the_end_or_an_error() -> None:
    head = struct.Struct("=IHHII")
    assert is_one(head.pack(88, 20, 2, 0, 0) + bytes(72))
    assert not is_one(head.pack(20, 3, 2, 0, 0) + bytes(4))
    for kind in (2, 3):
        with pytest.raises(OSError, match="answers") as caught:
            is_one(head.pack(20, kind, 0, 0, 0) + struct.pack("=i", -errno.ENOENT))
        assert caught.value.errno == errno.ENOENT
    with pytest.raises(struct.error):
        is_one(b"short")
