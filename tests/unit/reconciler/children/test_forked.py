"""Forked children: what they keep of their parent's, what they say, their end."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from reconciler.children.forked import FAILED, Child, Lines
from tests.patience import HANGS

ROOT = Path(__file__).parents[4]
OWN_DEV = """
mount -t tmpfs none "$1"
touch "$1/null"
mount --bind /dev/null "$1/null"
mount --rbind "$1" /dev
exec "$2" -c "$3" "$4"
"""
LOGS_IN_A_CHILD = """
import os, socket, sys
sys.path.insert(0, sys.argv[1])
from reconciler.children.forked import STDERR, keep_only
from reconciler.host.journal import event
journal = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
journal.bind("/dev/log")
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
    words: list[str | Path] = [
        "unshare",
        "--mount",
        "sh",
        "-ec",
        OWN_DEV,
        "sh",
        tmp_path,
        sys.executable,
    ]
    done = subprocess.run(
        [*words, LOGS_IN_A_CHILD, str(ROOT)], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("all [True, True]\n", "")


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
