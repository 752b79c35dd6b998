"""What programs see of the CPUs, on unified control groups: two nodes with two CPUs each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from laboratory.machines.virtual_machine import VirtualMachine

from reconciler.cpus.machine import parse
from tests.lab.fleet import PEOPLE, Fleet, reconcile
from tests.patience import eventually
from tests.vm.conftest import PATIENCE
from tests.vm.test_vm import UNIT, inside, restart

GROUP = "/sys/fs/cgroup/lxc.slice/lxc-gpu.slice/lxc-gpu@{}.service"
SEEN = r"""
nproc; getconf _NPROCESSORS_ONLN; grep -c ^processor /proc/cpuinfo
perl -ne 'print "$1\n" if /^Cpus_allowed_list:\s(.*)/' /proc/self/status"""


def cpus_of(host: VirtualMachine, user: str) -> str:
    """A container's CPUs, by the kernel."""
    return host.read(f"{GROUP.format(user)}/cpuset.cpus").strip()


def in_use(host: VirtualMachine) -> list[str]:
    """The CPUs of all containers."""
    return sorted(cpus_of(host, user) for user in PEOPLE)


@pytest.fixture(scope="module")
def shared_out(fleet: Fleet) -> Iterator[Fleet]:
    """Both containers run, with two CPUs each: limits that came while they ran."""
    fleet.commits("Two CPUs each", "echo 'limits: {cpus: 2}' >>servers/gpu17.yaml")
    assert reconcile(fleet.gpu17).ok
    yield fleet
    fleet.commits("All CPUs", "sed -i '/^limits:/d' servers/gpu17.yaml")
    assert reconcile(fleet.gpu17).ok


def test_each_has_a_node_to_itself(shared_out: Fleet, gpu17: VirtualMachine) -> None:
    mine, anns = cpus_of(gpu17, "lqchen"), cpus_of(gpu17, "ann")
    assert {mine, anns} == {"0-1", "2-3"}
    assert inside(shared_out, SEEN).stdout.split() == ["2", "2", "2", mine]
    assert inside(shared_out, SEEN, "ann").stdout.split() == ["2", "2", "2", anns]


def test_nobody_inside_gets_more(shared_out: Fleet, gpu17: VirtualMachine) -> None:
    """Its own systemd may share out what it has, and no more."""
    mine = cpus_of(gpu17, "lqchen")
    tried = ("taskset -c 0-3 nproc", "systemd-run -q --pipe --wait -p AllowedCPUs=0-3 nproc",
             "(echo 0-3 >/sys/fs/cgroup/cpuset.cpus) 2>&- || true; nproc")  # fmt: skip
    for attempt in tried:
        assert inside(shared_out, f"{attempt} || nproc").stdout.split()[-1] == "2", attempt
    one = mine[0]
    done = inside(shared_out, f"systemd-run -q --pipe --wait -p AllowedCPUs={one} nproc")
    assert done.stdout == "1\n", done.stderr
    assert cpus_of(gpu17, "lqchen") == mine


def test_a_start_has_them_and_moves_nobody(shared_out: Fleet, gpu17: VirtualMachine) -> None:
    before = {user: cpus_of(gpu17, user) for user in PEOPLE}
    restart(shared_out, "lqchen")
    gpu17.sh("systemctl daemon-reload")  # as a round does that changes somebody's limits
    assert {user: cpus_of(gpu17, user) for user in before} == before


def test_who_shares_while_others_are_free_is_moved_within_seconds(
    shared_out: Fleet, gpu17: VirtualMachine
) -> None:
    mine = cpus_of(gpu17, "lqchen")
    words = ["systemctl", "set-property", "--runtime", UNIT.format("ann"), f"AllowedCPUs={mine}"]
    gpu17.run(words)
    eventually(lambda: in_use(gpu17) == ["0-1", "2-3"], PATIENCE)


def test_a_cpu_that_goes_is_replaced(shared_out: Fleet, gpu17: VirtualMachine) -> None:
    """By one that is shared: nobody has fewer than promised."""
    online = "/sys/devices/system/cpu/cpu3/online"
    gpu17.sh(f"echo 0 >{online}")
    try:
        eventually(lambda: all(len(parse(each) - {3}) == 2 for each in in_use(gpu17)), PATIENCE)
        for user in PEOPLE:
            assert inside(shared_out, "nproc", user).stdout == "2\n"
    finally:
        gpu17.sh(f"echo 1 >{online}")
    eventually(lambda: in_use(gpu17) == ["0-1", "2-3"], PATIENCE)
