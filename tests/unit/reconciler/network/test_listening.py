"""Whether anything may listen in a container: real sockets, in real namespaces."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from reconciler.network.listening import may_listen
from tests.patience import eventually

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it makes network namespaces")
PROGRAM = """
import os, socket, sys
{}
print(flush=True)
sys.stdin.read()
"""
SERVES = """
server = socket.socket(getattr(socket, sys.argv[1]))
server.bind((sys.argv[2], int(sys.argv[3])))
server.listen()
"""
SPEAKS = """
talks = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
talks.bind(("0.0.0.0", 22))
"""
COVERS = """
import subprocess
for each in ("/proc", "/sys", "/tmp"):
    subprocess.run(["mount", "-t", "tmpfs", "none", each], check=True)
os.makedirs("/proc/self/net"), open("/proc/self/net/sockstat", "w").write("TCP: inuse 1")
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
        assert monitor.stdout.readline() == b"\n"
        yield str(monitor.pid)
        assert monitor.stdin is not None
        monitor.stdin.close()


@pytest.mark.parametrize("family", [("AF_INET", "0.0.0.0"), ("AF_INET6", "::")])
def test_who_listens_is_seen_before_anything_is_sent_there(family: tuple[str, str]) -> None:
    with _container(*family, "22") as monitor:
        assert may_listen(monitor)


def test_without_a_socket_of_tcp_nobody_does() -> None:
    with _container(does="") as monitor:
        assert not may_listen(monitor)
    with _container(does=SPEAKS) as monitor:
        assert not may_listen(monitor)


def test_the_servers_own_sockets_are_not_the_containers() -> None:
    """lxc-start's child begins in the server's network."""
    with _container("AF_INET", "127.0.0.1", "0", own=()) as monitor:
        assert not may_listen(monitor)


def test_what_has_ended_listens_no_more() -> None:
    with _container("AF_INET", "0.0.0.0", "22") as monitor:
        pass
    eventually(lambda: not may_listen(monitor))
    assert not may_listen("0")


def test_other_files_in_its_places_lead_nowhere() -> None:
    with _container(does=COVERS, own=("--net", "--mount")) as monitor:
        assert not may_listen(monitor)
