"""What a look reads: titles of sshd's programs, control groups, CPU time of what has ended."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from reconciler.host import locks, places
from reconciler.load import idleness, last_use, processes
from reconciler.load.last_use import cpu_time, is_session
from reconciler.load.processes import ProcessUsage
from tests.open_files import open_below
from tests.patience import HANGS, eventually
from tests.unit.reconciler.views import RESIDENT, with_


@pytest.mark.parametrize(
    "title",
    [
        b"sshd: ann@pts/0\0",
        b"sshd: ann@pts/0,pts/12",
        b"sshd: ann@notty\0\0\0\0",
        b"sshd: root@notty",
        b"sshd: ann",  # ssh -N
        b"sshd-session: ann@pts/3\0",
        b"sshd-session: dr.who-2@notty",
        "sshd: jörg@notty".encode(),
    ],
)
def test_somebody_is_logged_in(title: bytes) -> None:
    assert is_session(title)


@pytest.mark.parametrize(
    "title",
    [
        b"",
        b"\0",
        b"sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups\0",
        b"sshd: sshd -D [listener] 0 of 10-100 startups",
        b"/usr/sbin/sshd\0-D\0",
        b"sshd: ann [priv]\0",
        b"sshd: ann [net]",
        b"sshd: unknown [priv]",
        b"sshd: [accepted]",
        b"sshd-session: ann [priv]",
        b"sshd-session: [accepted]",
        b"sshd-auth: ann [preauth]",
        b"sshd: ",
        b"sshd: ann@pts/0 \x1b[2J",
        b"\xff" * 200,
    ],
)
def test_nobody_is(title: bytes) -> None:
    assert not is_session(title)


def test_cpu_time_of_what_has_ended_counts_with_its_parent() -> None:
    me, busy = os.getpid(), "import time\nwhile time.process_time() < 0.5: pass"
    before = processes.read()[me]
    subprocess.run([sys.executable, "-c", busy], check=True)
    after = processes.read()[me]
    assert after.ended_cpu - before.ended_cpu >= 0.4
    assert cpu_time([after]) - cpu_time([before]) >= 0.4


def process(pid: int, uid: int, command: str = "sshd") -> ProcessUsage:
    return ProcessUsage(pid, uid, command, 0.0, 1.0, 0, 2.0)


def test_a_users_account_of_the_server_is_no_container() -> None:
    """`sshd: lqchen@notty` is there while somebody types `ssh gpu17-manage`."""
    everything = {
        1: process(1, RESIDENT.uid),
        2: process(2, RESIDENT.subid + 1000),
        3: process(3, RESIDENT.subid - 1),
        4: process(4, RESIDENT.subid + 262144),
        5: process(5, 0),
    }
    inside = last_use._inside(with_(), everything)
    assert {user: [p.pid for p in found] for user, found in inside.items()} == {"lqchen": [2]}
    assert cpu_time(inside["lqchen"]) == 3.0


class TestTitles:
    @staticmethod
    def _named(title: str) -> subprocess.Popen[bytes]:
        argv = ["bash", "-c", f"exec -a '{title}' cat"]
        return subprocess.Popen(argv, stdin=subprocess.PIPE)

    def _is_sshd(self, process: subprocess.Popen[bytes]) -> bool:
        return Path(f"/proc/{process.pid}/cmdline").read_bytes().startswith(b"sshd")

    def test_are_read(self) -> None:
        waits, session = self._named("sshd: ann [priv]"), self._named("sshd: ann@pts/0")
        try:
            for each in (waits, session):
                eventually(partial(self._is_sshd, each))
            assert last_use._any_session([2**22 + 1, waits.pid, session.pid])
            assert not last_use._any_session([2**22 + 1, waits.pid])
        finally:
            for each in (waits, session):
                each.kill()
                each.communicate()

    def test_a_reader_that_has_to_wait_is_left_behind(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "7").mkdir()
        os.mkfifo(tmp_path / "7/cmdline")
        monkeypatch.setattr(last_use, "PROC", tmp_path)
        monkeypatch.setattr(last_use, "PATIENCE", 0.2)
        began = time.monotonic()
        assert not last_use._any_session([7])
        assert time.monotonic() - began < HANGS
        with (tmp_path / "7/cmdline").open("wb"):  # lets the reader go
            pass
        eventually(lambda: not open_below(tmp_path))


class TestSessions:
    """A container's control groups, as folders of a file system that isn't the kernel's."""

    @pytest.fixture
    def people(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setattr(last_use, "HIERARCHIES", (tmp_path / "v2", tmp_path / "v1"))
        monkeypatch.setattr(places, "LOCKS", tmp_path / "locks")
        unit = "lxc-gpu@lqchen.service"
        made = tmp_path / "v1/lxc.slice/lxc-gpu.slice" / unit / "lxc.payload.lqchen/user.slice"
        made.mkdir(parents=True)
        return made

    def test_each_that_comes_or_goes_changes_the_number(self, people: Path) -> None:
        seen = [last_use.sessions("lqchen")]
        steps = [
            (people / "user-1000.slice").mkdir,
            (people / "user-1000.slice/session-1.scope").mkdir,
            (people / "user-1000.slice/session-1.scope").rmdir,
            (people / "user-1000.slice").rmdir,
        ]
        for step in steps:
            time.sleep(0.02)
            step()
            seen.append(last_use.sessions("lqchen"))
        assert seen == sorted(set(seen))
        assert last_use.sessions("lqchen") == seen[-1]

    def test_many_are_not_all_read(self, people: Path) -> None:
        for number in range(2 * last_use.MOST_INSIDE):
            (people / f"user-{number}.slice").mkdir()
        with os.scandir(people) as there:
            in_order = [each.path for each in there]
        before, later = last_use.sessions("lqchen"), time.time_ns() + 10**18
        for unread in in_order[last_use.MOST_INSIDE :]:
            os.utime(unread, ns=(later, later))
        assert last_use.sessions("lqchen") == before
        os.utime(in_order[last_use.MOST_INSIDE - 1], ns=(later, later))
        assert last_use.sessions("lqchen") - before > 10**17

    def test_without_any(self, people: Path) -> None:
        assert last_use.sessions("ann") == 0

    def test_a_shell_that_was_over_before_the_look_changes_the_number(self, people: Path) -> None:
        future = time.time_ns() + 10**18  # by a clock that was wrong
        os.utime(people, ns=(future, future))
        seen = [last_use.sessions("lqchen")]
        for _ in range(2):
            time.sleep(0.02)
            with locks.one_of(locks.shell_place("lqchen"), locks.SHELLS_OF_ONE):
                pass
            seen.append(last_use.sessions("lqchen"))
        people.rmdir()
        seen.append(last_use.sessions("lqchen"))
        assert len(set(seen)) == len(seen)
        assert last_use.sessions("ann") == 0


def test_an_open_shell_is_a_login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it runs is no program of sshd's, and is not below user.slice."""
    monkeypatch.setattr(places, "LOCKS", tmp_path / "locks")
    monkeypatch.setattr(idleness, "INVOCATIONS", tmp_path)
    (tmp_path / "invocation:lxc-gpu@lqchen.service").symlink_to("start-1")
    assert not last_use.seen(with_())["lqchen"].login
    with locks.one_of(locks.shell_place("lqchen"), locks.SHELLS_OF_ONE) as place:
        assert place
        assert last_use.seen(with_())["lqchen"].login
    assert not last_use.seen(with_())["lqchen"].login
