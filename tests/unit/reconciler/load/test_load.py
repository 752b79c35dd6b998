"""What a load is made of: whose programs did what, which disks count, when the next line is due."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.load import gpus, machine, names, processes, rates
from reconciler.load.by_user import uses
from reconciler.load.file_systems import _room, mounts
from reconciler.load.machine import CpuSensors, CpuTimes
from reconciler.load.owners import Owners
from reconciler.load.process_table import ProcessSample, ProcessTable
from reconciler.load.processes import TICK
from reconciler.load.stream import Clock
from reconciler.nvidia.nvml import Gpu, GpuProcess, MigInstance
from state.wire.server_load import (
    MOST_BYTES,
    MOST_DISKS,
    MOST_INTERFACES,
    SYSTEM,
    ServerLoad,
    decode,
    encode,
)
from tests.patience import HANGS, cpu_seconds, eventually
from tests.unit.reconciler.views import RESIDENT, VIEW, with_

ANN, BOB, ROOT = 10, 20, 0
NAMES = {ANN: "ann", BOB: "bob", ROOT: SYSTEM}

PR_SET_DUMPABLE = 4
"""Of linux/prctl.h."""


def seen(
    uid: int = ANN, spent: int = 0, reaped: int = 0, parent: int = 1, **more: int
) -> ProcessSample:
    return ProcessSample(parent, more.get("started", 5), spent, reaped, uid, 1024, True)


def cpus(
    before: Mapping[int, ProcessSample], now: Mapping[int, ProcessSample], busy: float = 99
) -> dict[str, float]:
    return {use.user: use.cpus for use in uses(before, now, 1.0, busy, NAMES.__getitem__)}


_TICKS = st.integers(0, 10**6)
_SEEN = st.builds(seen, st.sampled_from([ANN, BOB, ROOT]), _TICKS, _TICKS, st.integers(0, 7))
LOOKS = st.dictionaries(st.integers(1, 6), _SEEN)


class TestWhose:
    def test_what_they_did_since_the_last_look(self) -> None:
        before = {1: seen(ANN, 1000), 2: seen(ANN, 500), 3: seen(BOB, 7)}
        now = {1: seen(ANN, 1000 + TICK), 2: seen(ANN, 500), 3: seen(BOB, 7)}
        found = uses(before, now, 2.0, 99, NAMES.__getitem__)
        assert [(use.user, use.cpus, use.memory, use.programs) for use in found] == [
            ("ann", 0.5, 2048, 2), ("bob", 0.0, 1024, 1)]  # fmt: skip

    def test_a_pid_that_went_to_somebody_else_begins_afresh(self) -> None:
        before = {1: seen(ANN, 9000, started=5)}
        assert cpus(before, {1: seen(BOB, TICK, started=6)}) == {"bob": 1.0}

    def test_what_came_and_went_in_between_counts(self) -> None:
        before = {1: seen(ANN, 0, 0)}
        assert cpus(before, {1: seen(ANN, 0, TICK)}) == {"ann": 1.0}

    def test_what_was_counted_while_it_lived_counts_once(self) -> None:
        """A program of ten days ends: its parent is told of all of them now."""
        days = 10 * 86400 * TICK
        before = {1: seen(ANN, 0, 0), 2: seen(ANN, days, 0, parent=1)}
        assert cpus(before, {1: seen(ANN, 0, days + TICK)}) == {"ann": 1.0}

    def test_also_when_its_parent_ends_with_it(self) -> None:
        """So the next one above it, here the container's init, is told."""
        days = 10 * 86400 * TICK
        before = {1: seen(ANN), 2: seen(ANN, 3, 0, parent=1), 3: seen(ANN, days, 0, parent=2)}
        assert cpus(before, {1: seen(ANN, 0, days + 3)}) == {"ann": 0.0}

    def test_also_through_sudo(self) -> None:
        """bob's program ran below ann's shell: she is told of its time, and it isn't hers."""
        days = 10 * 86400 * TICK
        before = {
            1: seen(ANN),
            2: seen(ROOT, 1, 0, parent=1),
            3: seen(BOB, days, 0, parent=2),
        }
        assert cpus(before, {1: seen(ANN, 0, days + 1)}) == {"ann": 0.0}

    def test_never_more_than_the_machine_did(self) -> None:
        """An orphan's time goes to whoever takes it in, and nobody can tell from here."""
        before = {1: seen(ANN), 4: seen(BOB)}
        now = {1: seen(ANN, 0, 10**9), 4: seen(BOB, TICK)}
        assert cpus(before, now, busy=3.0) == {"ann": 2.0, "bob": 1.0}

    def test_the_systems_own_children_are_left_out(self) -> None:
        """sshd is told of everything that ran in a session, whoever's it was."""
        assert cpus({1: seen(ROOT)}, {1: seen(ROOT, 0, 10**6)}) == {SYSTEM: 0.0}

    def test_thousands_that_end_in_a_chain(self) -> None:
        chain = {pid: seen(parent=pid - 1, spent=1) for pid in range(3, 16_000)}
        before = {2: seen(), **chain}
        begun = time.process_time()
        found = cpus(before, {2: seen(reaped=len(chain))})
        assert time.process_time() - begun < HANGS
        assert found == {"ann": 0.0}

    def test_parents_in_a_circle_end(self) -> None:
        """Pids are used again: two looks apart, two can name each other."""
        before = {1: seen(parent=2), 2: seen(parent=1), 3: seen()}
        assert cpus(before, {3: seen()}) == {"ann": 0.0}

    @given(LOOKS, LOOKS, st.floats(0, 100))
    def test_any_two_looks_give_a_load(
        self, before: dict[int, ProcessSample], now: dict[int, ProcessSample], busy: float
    ) -> None:
        found = uses(before, now, 1.0, busy, NAMES.__getitem__)
        assert {use.user for use in found} == {NAMES[each.uid] for each in now.values()}
        own = sum(
            max(0, s.spent - before[p].spent) if p in before else s.spent for p, s in now.items()
        )
        assert sum(use.cpus for use in found) <= max(busy, own / TICK) + 0.01
        assert all(use.cpus >= 0 for use in found)


class TestTable:
    @pytest.fixture
    def table(self) -> Iterator[ProcessTable]:
        """Many open descriptors, for the time of a test."""
        table = ProcessTable()
        yield table
        table.close()

    def test_this_program_and_none_of_the_kernels(self, table: ProcessTable) -> None:
        looks = [table.look() for _ in range(3)]
        mine = looks[2][os.getpid()]
        assert (mine.uid, mine.parent) == (os.geteuid(), os.getppid())
        assert mine.memory > 1 << 20
        assert mine.spent >= looks[0][os.getpid()].spent
        assert 2 not in looks[0] or looks[0][2].memory > 0, "kthreadd"

    def test_a_child_that_ends_is_gone_and_the_time_is_its_parents(
        self, table: ProcessTable
    ) -> None:
        before = table.look()[os.getpid()].reaped
        child = os.fork()
        if child == 0:
            end = time.process_time() + 0.1
            while time.process_time() < end:
                pass
            os._exit(0)
        assert table.look()[child].parent == os.getpid()
        os.waitpid(child, 0)
        now = table.look()
        assert child not in now
        assert now[os.getpid()].reaped - before >= 0.09 * TICK

    def test_descriptors_are_given_back(self, table: ProcessTable) -> None:
        table.look()
        child = os.fork()
        if child == 0:
            time.sleep(60)
            os._exit(0)
        table.look()
        opened = table._known[str(child)].descriptor
        os.kill(child, 9)
        os.waitpid(child, 0)
        table.look()
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(opened)

    def test_nobody_hides_memory_behind_many_groups(self, table: ProcessTable) -> None:
        """They stand before it in /proc/PID/status, half a megabyte of them."""
        if os.getuid() != 0:
            pytest.skip("only root may take groups")
        child = os.fork()
        if child == 0:
            os.setgroups(range(100_000, 165_536))
            time.sleep(60)
            os._exit(0)
        try:
            status = Path(f"/proc/{child}/status")
            eventually(lambda: len(status.read_bytes()) >= 400_000)
            assert table.look()[child].memory > 1 << 20
        finally:
            os.kill(child, 9)
            os.waitpid(child, 0)

    def test_nobody_holds_a_look_up_by_many_groups(self, table: ProcessTable) -> None:
        if os.getuid() != 0:
            pytest.skip("only root may take groups")
        parent = os.fork()
        if parent == 0:
            os.setsid()
            os.setgroups(range(100_000, 165_536))
            os.setuid(4242)
            ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)  # as after any execve(2)
            for _ in range(300):
                if os.fork() == 0:
                    break
            time.sleep(120)
            os._exit(0)
        try:
            mine, took = dict[int, ProcessSample](), list[float]()

            def all_are_seen() -> bool:
                begun = time.process_time()
                found = table.look()
                took.append(time.process_time() - begun)
                mine.update((pid, seen) for pid, seen in found.items()
                            if parent in (pid, seen.parent))  # fmt: skip
                return len(mine) == 301

            eventually(all_are_seen)
            assert {each.uid for each in mine.values()} == {4242}
            assert all(each.memory > 0 for each in mine.values())
            everything = processes.read()
            assert {everything[pid].uid for pid in mine} == {4242}
            some = [Path(f"/proc/{pid}/status") for pid in list(mine)[:30]]
            in_full = 10 * cpu_seconds(lambda: [status.read_bytes() for status in some])
            took.append(cpu_seconds(processes.read, times=1))
            assert max(took) < processes.PATIENCE + in_full / 2
        finally:
            os.killpg(parent, 9)
            os.waitpid(parent, 0)

    def test_without_a_descriptor_to_spare(self, table: ProcessTable) -> None:
        table._most_open = 0
        first, second = table.look(), table.look()
        assert table._open == 0
        assert second[os.getpid()].started == first[os.getpid()].started


class TestNames:
    @given(st.integers(0, 2**32 - 1))
    def test_owners_are_found_as_by_looking_at_everybody(self, uid: int) -> None:
        residents = {
            f"u{n}": RESIDENT.__class__(
                **{**vars(RESIDENT), "uid": 20_000 + n, "subid": 10_000_000 + 70_000 * n}
            )
            for n in range(50)
        }
        view = with_(residents=residents, subid_size=65_536)
        slowly = next(
            (
                name
                for name, resident in residents.items()
                if uid == resident.uid or 0 <= uid - resident.subid < 65_536
            ),
            None,
        )
        assert Owners(view).of(uid) == slowly

    def test_owners_at_the_edges(self) -> None:
        owners, first = Owners(VIEW), RESIDENT.subid
        found = [owners.of(uid) for uid in (first - 1, first, first + 262_143, first + 262_144)]
        assert found == [None, "lqchen", "lqchen", None]

    def test_accounts(self) -> None:
        passwd = "root:x:0:0::/:/bin/sh\nvi:x:1001:1::/:\nalias:x:1001:1::/:\nbroken\na:x:y:1:::\n"
        assert names.accounts(passwd) == {0: "root", 1001: "vi"}
        assert names.first_uid("# UID_MIN 5\nUID_MIN\t\t  500\n") == 500
        assert names.first_uid("") == 1000

    def test_somebody_of_a_directory_is_asked_for_aside(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """Here NSS knows root; the directory behind it is what another server has."""
        monkeypatch.setattr(names, "PASSWD", tmp_path / "passwd")
        monkeypatch.setattr(names, "LOGIN_DEFS", tmp_path / "login.defs")
        (tmp_path / "login.defs").write_text("UID_MIN 0\n")
        mine = names.Names()
        try:
            mine.refresh()
            assert (mine(0), mine(3_999_999_999)) == (SYSTEM, SYSTEM)

            def known() -> bool:
                mine.refresh()
                return mine(0) != SYSTEM

            eventually(known)
            assert (mine(0), mine(3_999_999_999)) == ("root", SYSTEM)
        finally:
            mine.close()


MOUNTINFO = r"""
22 1 259:2 / / rw shared:1 - ext4 /dev/nvme0n1p2 rw
23 22 0:21 / /proc rw - proc proc rw
24 22 0:22 / /tmp rw - tmpfs tmpfs rw
25 22 259:1 / /boot/efi rw - vfat /dev/nvme0n1p1 rw
26 22 259:2 /srv/data /data rw - ext4 /dev/nvme0n1p2 rw
27 22 7:1 / /snap/core/1 ro - squashfs /dev/loop1 ro
28 22 0:50 / /NAS\040home rw - nfs4 nas:/home rw
29 22 0:50 /lqchen /run/lxc-gpu/mounts/lqchen/home rw - nfs4 nas:/home rw
30 22 0:51 / /NAS/share rw - nfs nas:/share rw
31 22 8:1 /containers /var/lib/lxc-gpu/containers rw - xfs /dev/sda1 rw
32 22 0:60 / /scratch rw - btrfs /dev/sdb rw
33 22 0:61 /sub /scratch/sub rw - btrfs /dev/sdb rw
34 22 0:62 / /var/lib/docker/overlay2/x/merged rw - overlay overlay rw
35 22 0:63 / /tank/a rw - zfs tank/a rw
36 22 0:64 / /tank rw - zfs tank rw
37 22 0:65 / /var/lib/lxcfs rw - fuse.lxcfs lxcfs rw
38 22 8:99 / /run/lxc-gpu/x rw - ext4 /dev/sdz rw
39 22 8:98 / /a\012b rw - ext4 /dev/sdy rw
40 22 8:97
"""


def test_each_disk_and_nas_once() -> None:
    found = [(mount.path, mount.remote) for mount in mounts(MOUNTINFO)]
    assert found == [
        ("/", False),
        ("/scratch", False),
        ("/tank", False),
        ("/var/lib/lxc-gpu/containers", False),
        ("/NAS home", True),
        ("/NAS/share", True),
    ]


def test_disks_and_network_cards(tmp_path: Path) -> None:
    block, net = tmp_path / "block", tmp_path / "net"
    for name in ("sda", "nvme0n1", "nvme0c0n1"):
        (block / name / "device").mkdir(parents=True)
    for name in ("dm-0", "loop0", "md0"):
        (block / name).mkdir()
    there = ["sda", "sda1", "nvme0n1", "nvme0c0n1", "dm-0", "loop0", "md0"]
    assert rates.whole_disks(there, block) == {"sda", "nvme0n1"}
    for path in ("eth0", "lo", "veth1/brport", "veth1/master", "lxcgpu0/bridge"):
        (net / path).mkdir(parents=True)
    links = ["eth0", "lo", "veth1", "lxcgpu0"]
    assert rates.to_the_world(links, net) == {"eth0"}, "no card: what is no bridge's"
    (net / "ens1/device").mkdir(parents=True)
    assert rates.to_the_world([*links, "ens1"], net) == {"ens1"}


def test_a_nas_that_says_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    told = os.statvfs_result((4096, 4096, 2**63, 2**63, 2**64 - 1, 0, 0, 0, 0, 255))
    monkeypatch.setattr("reconciler.load.file_systems.os.statvfs", lambda _: told)
    assert all(0 <= each <= MOST_BYTES for each in _room("/nas"))


def test_no_more_interfaces_than_a_load_may_have() -> None:
    there = {f"vf{i}": (0, 0) for i in range(256)}
    assert len(rates.network_rates(there, there, 1.0)) == MOST_INTERFACES
    assert len(rates.disk_rates(there, there, 1.0)) == MOST_DISKS


def test_rates_of_what_was_there_both_times() -> None:
    before, now = {"sda": (100, 1000), "sdb": (5, 5)}, {"sda": (600, 1000), "sdc": (9, 9)}
    (rate,) = rates.disk_rates(before, now, 5.0)
    assert (rate.name, rate.read, rate.written) == ("sda", 100.0, 0.0)
    (again,) = rates.network_rates({"eth0": (900, 900)}, {"eth0": (10, 950)}, 5.0)
    assert (again.received, again.sent) == (0.0, 10.0)


def test_cpu_share() -> None:
    load = machine.cpu_load(CpuTimes(10, 100), CpuTimes(15, 120), 8, 61.0)
    assert (load.percent, load.cpus, load.temperature) == (25.0, 8, 61.0)
    assert machine.cpu_load(CpuTimes(10, 100), CpuTimes(10, 100), 0, None).percent == 0


def test_the_hottest_cpu(tmp_path: Path) -> None:
    """No disk's sensor is read, nor a core's where there is one of the whole."""
    chips = {
        "hwmon0": ("nvme", {"temp1": ("Composite", "90000")}),
        "hwmon1": ("coretemp", {"temp1": ("Package id 0", "61000"), "temp2": ("Core 0", "62000")}),
        "hwmon2": ("coretemp", {"temp1": ("Package id 1", "58000")}),
    }
    assert CpuSensors(tmp_path).hottest() is None
    for place, (name, inputs) in chips.items():
        (tmp_path / place).mkdir()
        (tmp_path / place / "name").write_text(f"{name}\n")
        for each, (label, value) in inputs.items():
            (tmp_path / place / f"{each}_label").write_text(f"{label}\n")
            (tmp_path / place / f"{each}_input").write_text(f"{value}\n")
    assert CpuSensors(tmp_path).hottest() == 61.0


class TestClock:
    def test_a_steady_one_that_makes_up_for_nothing(self) -> None:
        clock = Clock(101.0, 5.0)
        assert [clock.next(now) for now in (100.0, 101.2, 106.0, 111.3)] == [101, 106, 111, 116]
        assert clock.next(143.0) == 146
        assert clock.next(146.1) == 151

    @given(st.lists(st.floats(0, 30), min_size=1, max_size=30))
    def test_is_never_early_and_never_twice(self, pauses: list[float]) -> None:
        clock, now, before = Clock(1.0, 5.0), 0.0, 0.0
        for pause in pauses:
            due = clock.next(now)
            assert due >= now
            assert due > before
            assert due % 5 == 1
            now, before = due + pause, due


class TestGpus:
    """A reading composed by hand, after NVML's documentation: an A100 with MIG, and a T4."""

    PROCESSES = (GpuProcess(7, 5 << 30), GpuProcess(8, None), GpuProcess(9, 1 << 30))
    GPUS = (
        Gpu(0, "GPU-0", 0, "NVIDIA A100-SXM4-40GB", 40 << 30, 6 << 30, None, 41, 61.5, 400.0,
            (MigInstance("MIG-0", "1g.5gb", 5 << 30, 1 << 30),), PROCESSES),
        Gpu(1, "GPU-1", 1, "Tesla T4\x1b[2J", 16 << 30, 0, 250, 9999, 30.0, None, (), ()),
    )  # fmt: skip

    def test_users_in_the_place_of_processes(self) -> None:
        first, second = gpus.loads(self.GPUS, {7: "bob", 8: "cyd", 9: "bob"}.__getitem__)
        assert [(each.user, each.memory) for each in first.users] == [
            ("bob", 6 << 30), ("cyd", None)]  # fmt: skip
        assert (first.mig[0].name, first.power, first.temperature) == ("1g.5gb", 61.5, 41.0)
        assert (second.name, second.utilisation, second.temperature) == ("Tesla T4�[2J", None, None)
        assert second.free

    def test_can_be_sent(self) -> None:
        load = ServerLoad(
            "gpu17", 1.0, 5.0, machine.cpu_load(CpuTimes(0, 1), CpuTimes(1, 2), 8, None),
            machine.memory_load(), gpus=gpus.loads(self.GPUS, lambda _: "bob"),
            gpu_problem=gpus.SUSPENDED,
        )  # fmt: skip
        assert decode(encode(load).encode()) == load
