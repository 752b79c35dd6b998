"""Forked children: what they keep of their parent's, what they say, their end."""

from __future__ import annotations

import errno
import os
import resource
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from reconciler.children.forked import FAILED, Child, Lines
from tests.patience import HANGS
from tests.unit.own_log import said_by

ROOT = Path(__file__).parents[4]
LOGS_IN_A_CHILD = """
import os
from reconciler.children.forked import STDERR, keep_only
from reconciler.host.journal import event
event("started", user="ann")
reader, writer = os.pipe()
if os.fork() == 0:
    keep_only([STDERR, writer])
    opened = [os.open("/proc/self/status", os.O_RDONLY) for _ in range(9)]
    event("stopped", user="ann")
    still = [os.readlink(f"/proc/self/fd/{each}").endswith("/status") for each in opened]
    os.write(writer, b"all" if all(still) else b"not all")
    os._exit(0)
os.close(writer)
said = os.read(reader, 9).decode()
heard = [b"event=" in journal.recv(200) for _ in range(2)]
print(said, heard)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: a /dev of its own")
def test_to_log_closes_none_of_its_files(tmp_path: Path) -> None:
    """libc remembers the number of the descriptor that it logs to (syslog(3))."""
    assert said_by(LOGS_IN_A_CHILD, tmp_path) == "all [True, True]\n"


def test_a_child_never_returns_into_its_parent() -> None:
    child = Child(lambda: 1 // 0, [])
    assert child.has_ended(HANGS)
    assert child.status == FAILED


def test_a_child_is_killed_and_its_end_is_known() -> None:
    child = Child(signal.pause, [])
    assert not child.has_ended()
    assert child.kill(HANGS)
    assert child.status == -signal.SIGKILL
    assert child.kill(0), "once more does nothing"


def test_a_line_without_an_end_is_given_up() -> None:
    ours, theirs = socket.socketpair()

    def flood() -> None:
        while True:
            theirs.sendall(b"x" * 65536)

    with ours:
        with theirs:
            child = Child(flood, [theirs.fileno()])
        assert Lines(ours).next(HANGS) == b""
        assert child.kill(HANGS)


def test_a_child_that_can_not_be_held_is_not_left(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(pid: int) -> int:
        raise OSError(errno.EMFILE, f"no descriptor for {pid}")

    with monkeypatch.context() as crowded:
        crowded.setattr(os, "pidfd_open", none_left)
        with pytest.raises(OSError, match="no descriptor"):
            Child(signal.pause, [])
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_lines_end_where_a_child_ended_before_it_read() -> None:
    """The kernel says ECONNRESET then (unix(7)), not that there is no more."""
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            ours.sendall(b"?\n")
            theirs.sendall(b"one\ntwo")
        said = Lines(ours)
        assert said.next(HANGS) == b"one\n"
        assert said.next(HANGS) == b""


@contextmanager
def heard(act: Callable[[socket.socket], object]) -> Iterator[tuple[Child, Lines]]:
    """A child that does this with its end of a socket; it is ended at last."""
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            child = Child(lambda: act(theirs), [theirs.fileno()])
        try:
            yield child, Lines(ours)
        finally:
            assert child.kill(HANGS)
            with pytest.raises(ChildProcessError):  # no zombie is left
                os.waitpid(child.pid, os.WNOHANG)


def left_to_another(theirs: socket.socket) -> None:
    """Leave somebody who holds the socket, and end."""
    pid = os.fork()
    if pid == 0:
        signal.pause()
    theirs.sendall(f"{pid}\n".encode())
    os._exit(3)


def test_a_child_that_lets_go_of_its_end_and_lives_on_is_heard_to_the_end() -> None:
    def closes(theirs: socket.socket) -> None:
        theirs.sendall(b"one\ntw")
        theirs.close()
        signal.pause()

    with heard(closes) as (child, said):
        assert [said.next(HANGS) for _ in range(3)] == [b"one\n", b"", b""]
        assert not child.has_ended()


def test_a_grandchild_that_holds_the_other_end_hides_no_end() -> None:
    with heard(left_to_another) as (child, said):
        left = int(said.next(HANGS) or b"0")
        try:
            assert child.has_ended(HANGS)
            assert (child.status, said.next(0.01)) == (3, None)
        finally:
            os.kill(left, signal.SIGKILL)


def test_a_child_that_stands_still_is_given_up_and_killed() -> None:
    with heard(lambda _: os.kill(os.getpid(), signal.SIGSTOP)) as (child, said):
        assert said.next(0.01) is None
        assert not child.has_ended(0.01)


def test_signals_that_come_meanwhile_change_nothing() -> None:
    def speaks_slowly(theirs: socket.socket) -> None:
        for letter in b"slowly\n":
            select.select([], [], [], 0.01)
            theirs.send(bytes([letter]))

    before = signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    try:
        with heard(speaks_slowly) as (child, said):
            assert said.next(HANGS) == b"slowly\n"
            assert child.has_ended(HANGS)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_descriptor_without_a_place_is_an_error_and_not_nothing() -> None:
    def sends(theirs: socket.socket) -> None:
        socket.send_fds(theirs, [b"{}\n"], [theirs.fileno()])
        signal.pause()

    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with heard(sends) as (_, said):
        with said.channel.dup() as highest:
            resource.setrlimit(resource.RLIMIT_NOFILE, (highest.fileno(), before[1]))
        try:
            taken = list(places_left())
            with pytest.raises(OSError, match="no room"):
                said.next(HANGS)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
            for descriptor in taken:
                os.close(descriptor)


def places_left() -> Iterator[int]:
    """Descriptors until there are no more."""
    with suppress(OSError):
        while True:
            yield os.dup(0)


FORKS_NO_MORE = """
import os, resource, sys
sys.path.insert(0, sys.argv[1])
from reconciler.children.forked import Child
os.setgroups([]), os.setgid(65534), os.setuid(65534)
resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
opened = os.listdir("/proc/self/fd")
try:
    Child(lambda: print("it runs"), [1])
except BlockingIOError:
    print("refused", os.listdir("/proc/self/fd") == opened)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: another account's limit")
def test_a_fork_that_fails_is_an_error() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORKS_NO_MORE, str(ROOT)], capture_output=True, text=True, check=True
    )
    assert done.stdout == "refused True\n"
