"""Whether anything listens at sshd's port in a container: real processes, in networks of theirs."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from reconciler.requests.power import listens
from tests.patience import eventually

SERVER = """
import errno, socket, sys
server = socket.socket(getattr(socket, sys.argv[1]))
try:
    server.bind((sys.argv[2], int(sys.argv[3])))
    if sys.argv[4:]:
        server.listen()
except OSError as error:  # the machine's own sshd listens there
    assert error.errno == errno.EADDRINUSE
print(flush=True)
sys.stdin.read()
"""


@contextmanager
def _container(*argv: str, alone: bool = True) -> Iterator[str]:
    """The process id of something whose only child does what `argv` says."""
    around = ["unshare", "--fork", *(["--net"] if alone else [])]
    python = ["/usr/bin/python3", "-IS", "-c", SERVER, *argv]
    with subprocess.Popen(
        [*around, *python], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as monitor:
        assert monitor.stdout is not None
        monitor.stdout.readline()
        yield str(monitor.pid)
        assert monitor.stdin is not None
        monitor.stdin.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it makes a network namespace")
class TestListens:
    """The start reads that in `/proc/PID/net`."""

    @pytest.mark.parametrize("family", [("AF_INET", "0.0.0.0"), ("AF_INET6", "::")])
    def test_an_sshd_is_seen_before_anything_is_sent_to_it(self, family: tuple[str, str]) -> None:
        with _container(*family, "22", "listen") as monitor:
            assert listens(monitor)

    def test_another_port_or_one_that_is_only_taken_is_none(self) -> None:
        with _container("AF_INET", "0.0.0.0", "2222", "listen") as monitor:
            assert not listens(monitor)
        with _container("AF_INET", "0.0.0.0", "22") as monitor:
            assert not listens(monitor)

    def test_the_server_s_own_sshd_is_not_the_container_s(self) -> None:
        """lxc-start's child begins in the server's network."""
        with _container("AF_INET", "127.0.0.22", "22", "listen", alone=False) as monitor:
            assert not listens(monitor)

    def test_what_has_ended_listens_no_more(self) -> None:
        with _container("AF_INET", "0.0.0.0", "22", "listen") as monitor:
            pass
        eventually(lambda: not listens(monitor))
        assert not listens("0")
