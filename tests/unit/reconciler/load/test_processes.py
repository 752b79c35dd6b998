"""Who a process belongs to, and what it uses: /proc as text."""

import os

from reconciler.load import processes
from reconciler.load.owners import Owners
from reconciler.load.processes import ProcessUsage, UserUsage
from tests.unit.reconciler.views import VIEW

OWNERS = Owners(VIEW)

STATUS = b"""\
Name:\tpython3
Pid:\t4242
Uid:\t18127464\t18127464\t18127464\t18127464
VmRSS:\t   20480 kB
RssAnon:\t   10240 kB
RssFile:\t    9216 kB
RssShmem:\t    1024 kB
"""
STAT = b"4242 (a) (b\x1b[2J) S 1 4242 4242 0 -1 4194304 1 0 0 0 150 50 0 0 20 0 1 0 1000 1 1"


def process(pid: int, cpu: float, uid: int = 18126464, started: float = 1.0) -> ProcessUsage:
    return ProcessUsage(pid, uid, "x", started, cpu, 1024)


def test_a_process_and_its_name_is_no_trick() -> None:
    tick = os.sysconf("SC_CLK_TCK")
    assert processes.of_status(STATUS) == (18127464, 11 << 20)
    found = processes.of_proc(4242, 18127464, 11 << 20, STAT, booted=100.0)
    assert found == ProcessUsage(
        4242, 18127464, "a) (b?[2J", 100 + 1000 / tick, 200 / tick, 11 << 20
    )


def test_the_kernels_own_are_left_out() -> None:
    status = b"Name:\tkthreadd\nPid:\t2\nUid:\t0\t0\t0\t0\n"
    stat = b"2 (kthreadd) S 0 0 0 0 -1 2129984 0 0 0 0 0 2 0 0 20 0 1 0 1 0 0"
    assert processes.of_status(status) == (0, None)
    assert processes.of_stat(stat).kernel


def test_a_name_with_lines_of_its_own_changes_nothing() -> None:
    """The kernel escapes line ends in status, and not in stat."""
    hostile = STAT.replace(b"(a) (b\x1b[2J)", b"(x) R 1 2\n3 (y\nz\xff)")
    said = processes.of_stat(hostile)
    assert said == processes.of_stat(STAT)._replace(command="x) R 1 2?3 (y?z\ufffd"[:15])


def test_this_program_is_there() -> None:
    mine = processes.read()[os.getpid()]
    assert mine.uid == os.geteuid()
    assert mine.memory > 1 << 20


def test_ids_name_their_user_to_the_last_one() -> None:
    assert OWNERS.of(18126464) == "lqchen"
    assert OWNERS.of(18126464 + 262143) == "lqchen"
    assert OWNERS.of(20031) == "lqchen"
    assert OWNERS.of(18126464 + 262144) is None
    assert OWNERS.of(18126463) is None
    assert processes.name_of(OWNERS, 0) == "root"
    assert processes.name_of(OWNERS, 3_999_999_999) == "uid 3999999999"


def test_use_over_the_time_between_two_looks() -> None:
    before = {1: process(1, 10.0), 2: process(2, 5.0), 3: process(3, 99.0, started=0.5)}
    now = {1: process(1, 10.5), 2: process(2, 5.0), 3: process(3, 0.25), 9: process(9, 7.0, uid=0)}
    assert processes.uses(OWNERS, before, now, seconds=0.5) == (UserUsage("lqchen", 1.5, 3072, 3),)
