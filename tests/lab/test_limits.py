"""Limits of containers: in effect while they run, seen inside, and no harm to the neighbours."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from laboratory.hosts import Host

from tests.lab.fleet import Fleet, plan, reconcile, running
from tests.patience import eventually

LIMITS = "limits: {memory: 512M, cpus: 1, tasks: 300}"
NO_LIMITS = "sed -i '/^limits:/d' registrations/gpu17/lqchen.yaml servers/gpu17.yaml"
DROP_IN = "/etc/systemd/system/lxc-gpu@lqchen.service.d/50-lxc-gpu-limits.conf"
MIB = 2**20


def shown(gpu17: Host, user: str = "lqchen") -> dict[str, str]:
    properties = "MemoryMax,CPUQuotaPerSecUSec,TasksMax,MainPID,MemorySwapMax,OOMPolicy"
    lines = gpu17.run(["systemctl", "show", f"lxc-gpu@{user}", "-p", properties]).stdout
    return dict(line.split("=", 1) for line in lines.splitlines())


def in_kernel(gpu17: Host, name: str, of_v1: str) -> str:
    """A limit as the kernel has it, by its name in cgroup v2, or in v1 where that is mounted."""
    found = gpu17.sh(f"""
        group=$(systemctl show -p ControlGroup --value lxc-gpu@lqchen)
        cat /sys/fs/cgroup$group/{name} 2>&- || cat /sys/fs/cgroup/*$group/{of_v1}""")
    return found.stdout.strip()


@pytest.fixture(scope="module")
def limited(fleet: Fleet) -> Iterator[Fleet]:
    """lqchen's container, which ran before its limits were committed."""
    for name in ("lqchen", "ann"):
        assert fleet.types("ssh gpu17-manage", user=name).ok
    before = shown(fleet.gpu17)
    script = f"{NO_LIMITS}; echo '{LIMITS}' >>registrations/gpu17/lqchen.yaml"
    fleet.commits("Limits for lqchen", script)
    assert any("limit lqchen's container: 0.5 GiB" in line for line in plan(fleet.gpu17))
    done = reconcile(fleet.gpu17)
    assert done.ok, done.stdout
    assert shown(fleet.gpu17)["MainPID"] == before["MainPID"], "it was not restarted"
    yield fleet
    fleet.commits("No limits for lqchen", NO_LIMITS)
    assert reconcile(fleet.gpu17).ok


@pytest.fixture
def gpu17(limited: Fleet) -> Host:
    return limited.gpu17


class TestWhileItRuns:
    def test_they_are_in_effect(self, gpu17: Host) -> None:
        now = shown(gpu17)
        assert (now["MemoryMax"], now["TasksMax"]) == (f"{512 * MIB}", "300")
        assert in_kernel(gpu17, "memory.max", "memory.limit_in_bytes") == f"{512 * MIB}"
        assert in_kernel(gpu17, "pids.max", "pids.max") == "300"
        assert in_kernel(gpu17, "cpu.max", "cpu.cfs_quota_us").split()[0] == "100000"
        assert plan(gpu17) == []

    def test_they_are_seen_inside(self, limited: Fleet) -> None:
        total = limited.types("ssh gpu17 free -m").stdout.splitlines()[1].split()[1]
        assert total == "512"

    def test_status_says_used_and_limit(self, limited: Fleet) -> None:
        said = limited.types("ssh gpu17-manage status").stdout
        assert " of 512.0 MiB\n" in said
        assert " of 300\n" in said
        assert "cpus     up to 1 at a time" in said
        facts = json.loads(limited.types("ssh gpu17-manage status --json").stdout)
        assert facts["memory_limit_bytes"] == 512 * MIB
        assert facts["disk_bytes"] > 50 * MIB

    def test_a_greedy_program_is_killed_and_nothing_else(self, limited: Fleet) -> None:
        gpu17, before = limited.gpu17, shown(limited.gpu17)
        done = limited.types("ssh gpu17 'tail /dev/zero; echo ended $?'")
        assert done.stdout == "ended 137\n", done.stderr
        assert shown(gpu17)["MainPID"] == before["MainPID"]
        for name in ("lqchen", "ann"):
            assert running(gpu17, name)
            assert limited.types("ssh gpu17 true", user=name).ok

    def test_shared_memory_is_half_of_it_and_full_before_anything_is_killed(
        self, limited: Fleet
    ) -> None:
        assert limited.types("ssh gpu17-manage restart").ok
        done = limited.types("ssh gpu17 'head -c 300M /dev/zero >/dev/shm/x; echo ended $?; "
                             "stat -c %s /dev/shm/x; rm /dev/shm/x'")  # fmt: skip
        assert done.stdout == f"ended 1\n{256 * MIB}\n"
        assert "No space left on device" in done.stderr
        assert limited.types("ssh gpu17 true").ok

    def test_shared_memory_follows_the_limit(self, limited: Fleet) -> None:
        """Up and down, while it runs; what its owner has in it stays."""
        before = shown(limited.gpu17)["MainPID"]
        room = "df --output=size -B1M /dev/shm | tail -n 1; cat /dev/shm/mine"
        assert limited.types("ssh gpu17 'echo mine | sudo tee /dev/shm/mine'").ok
        for memory, half in (("2G", 1024), ("512M", 256)):
            limited.commits("More memory", f"sed -i 's/memory: [0-9]*[MG]/memory: {memory}/' "
                            "registrations/gpu17/lqchen.yaml")  # fmt: skip
            assert reconcile(limited.gpu17).ok
            assert limited.types(f"ssh gpu17 '{room}'").stdout.split() == [str(half), "mine"]
            options = limited.types("ssh gpu17 findmnt -no OPTIONS /dev/shm").stdout
            assert "nosuid,nodev" in options
        assert shown(limited.gpu17)["MainPID"] == before, "it was not restarted"

    def test_its_clock_began_with_its_start(self, limited: Fleet) -> None:
        """Uptime, boot time and how long programs run agree with each other."""
        look = """
            echo $(ps -o etimes= -p 1) $(cut -d. -f1 /proc/uptime) $(date +%s) \
                $(date -d "$(ps -o lstart= -p 1)" +%s) $(sed -n "s/btime //p" /proc/stat)"""
        start = "systemctl show -P ExecMainStartTimestamp lxc-gpu@lqchen"
        outside = int(limited.gpu17.sh(f'date -d "$({start})" +%s').stdout)
        for way in ("ssh gpu17", "ssh gpu17-manage shell"):
            done = limited.types(f"{way} '{look}'")
            runs, up, now, began, boot = map(int, done.stdout.split())
            assert 0 <= runs <= up + 1, (way, done.stdout)
            assert abs(began + runs - now) <= 2, "two ways to say the same, in whole seconds"
            assert abs(boot + up - now) <= 2
            assert boot >= outside - 2, "the server's own is older"

    def test_too_many_tasks_are_refused_and_no_neighbour_notices(self, limited: Fleet) -> None:
        bomb = "for n in $(seq 400); do sleep 60 & done; wait"
        limited.laptop.sh("cat >/tmp/bomb; rm -f /tmp/said", stdin=bomb)
        done = limited.types("""
            ssh gpu17 bash -s </tmp/bomb 2>/tmp/said & trap "kill $!" EXIT
            until grep -q unavailable /tmp/said; do sleep 0.1; done
            ssh gpu17-manage status --json; tail -n 1 /tmp/said""")
        facts, said = done.stdout.splitlines()
        assert 250 <= json.loads(facts)["tasks"] <= 300
        assert "Resource temporarily unavailable" in said
        assert limited.types("ssh gpu17 true", user="ann").ok
        assert limited.types("ssh gpu17-manage restart").ok

    def test_many_files_may_be_open(self, limited: Fleet) -> None:
        assert int(limited.types("ssh gpu17 ulimit -Sn").stdout) > 10_000


class TestWhatProgramsSee:
    """§3: CPUs, on control groups of v1; unified ones are in tests/vm/test_cpus.py."""

    SEEN = "ssh gpu17 'nproc; getconf _NPROCESSORS_ONLN; grep -c ^processor /proc/cpuinfo'"

    def seen(self, fleet: Fleet) -> list[str]:
        return fleet.types(self.SEEN).stdout.split()

    def test_as_many_cpus_as_they_may_use(self, limited: Fleet) -> None:
        assert self.seen(limited) == ["1"] * 3
        assert limited.types("ssh gpu17 taskset -c 0-9 nproc").stdout == "1\n"
        facts = json.loads(limited.types("ssh gpu17-manage status --json").stdout)
        assert facts["cpu_set"] in ("0", "1")
        found = limited.gpu17.run(["lxc-gpu", "doctor"], check=False).stdout
        assert "containers with a limit on cpus see only so many CPUs" in found

    def test_from_the_first_moment_of_the_next_start_on(self, limited: Fleet) -> None:
        assert limited.types("ssh gpu17-manage restart").ok
        assert self.seen(limited) == ["1"] * 3

    def test_and_of_memory_when_lxcfs_ended_meanwhile(self, limited: Fleet) -> None:
        """§3: it comes back, and containers that run see the new one: nobody is restarted."""
        gpu17, before = limited.gpu17, shown(limited.gpu17)["MainPID"]
        memory = "ssh gpu17 'free -m; lscpu >/dev/null && ps -ef >/dev/null && echo well'"
        gpu17.sh("systemctl start lxc-gpu-watch")
        try:
            for ended in ("systemctl kill -s KILL lxcfs", "systemctl restart lxcfs"):
                gpu17.sh(ended)
                eventually(lambda: gpu17.sh("systemctl is-active lxcfs", check=False).ok)
                eventually(lambda: " 512 " in limited.types(memory).stdout)
                assert limited.types(memory).stdout.endswith("well\n")
            gpu17.sh("systemctl stop lxcfs")
            eventually(lambda: limited.types(memory).stdout.endswith("well\n"))
            gpu17.sh("systemctl start lxcfs")
            eventually(lambda: " 512 " in limited.types(memory).stdout)
        finally:
            gpu17.sh("systemctl stop lxc-gpu-watch; systemctl start lxcfs")
        assert self.seen(limited) == ["1"] * 3
        assert shown(gpu17)["MainPID"] == before

    @pytest.mark.parametrize("call", ["umount2", "move_mount"])
    def test_a_kill_in_the_exchange_is_healed(self, limited: Fleet, call: str) -> None:
        gpu17 = limited.gpu17
        gpu17.sh("systemctl restart lxcfs")
        kill = f"strace -f -qq -o /dev/null --trace={call} --inject={call}:signal=KILL:when=1"
        killed = gpu17.sh(f"{kill} lxc-gpu reconcile --kind lxcfs", check=False)
        assert not killed.ok, killed.stdout
        assert reconcile(gpu17).ok
        memory = "ssh gpu17 'free -m; lscpu >/dev/null && ps -ef >/dev/null && echo well'"
        said = limited.types(memory).stdout
        assert " 512 " in said
        assert said.endswith("well\n")
        assert self.seen(limited) == ["1"] * 3

    def test_all_without_a_limit_or_with_the_setting_off(self, limited: Fleet) -> None:
        everything = limited.gpu17.sh("nproc").stdout
        assert limited.types("ssh gpu17 nproc", user="ann").stdout == everything
        limited.commits("All", "echo 'cpu_sets: false' >>servers/gpu17.yaml")
        try:
            assert "lqchen's container run on all CPUs" in reconcile(limited.gpu17).stdout
            assert self.seen(limited) == everything.split() * 3
        finally:
            limited.commits("So many", "sed -i /^cpu_sets/d servers/gpu17.yaml")
            assert reconcile(limited.gpu17).ok
        assert self.seen(limited) == ["1"] * 3


class TestOnTheServerItself:
    """What a user has there beside the container: sshd's processes, `connect`, root's work."""

    def test_all_of_it_is_limited_together_and_no_sysadmin_is(self, limited: Fleet) -> None:
        gpu17 = limited.gpu17
        limited.types("(sleep 60 | nohup ssh -s gpu17-manage sftp) >/dev/null 2>&1 & echo $!")
        try:
            eventually(lambda: gpu17.sh("pgrep -u lqchen -f login-shell", check=False).ok)
            seen = gpu17.sh("""
                shell=$(pgrep -u lqchen -f login-shell); slice=user-$(id -u lqchen).slice
                for pid in $shell $(ps -o ppid= $shell); do
                    grep -qE "[:/]user.slice/$slice/session-" /proc/$pid/cgroup && echo inside
                done
                for file in memory.max memory.limit_in_bytes pids.max; do
                    cat /sys/fs/cgroup/user.slice/$slice/$file 2>&- ||
                        cat /sys/fs/cgroup/*/user.slice/$slice/$file 2>&- || true
                done
                systemctl show -p MemoryMax --value user-0.slice""").stdout
        finally:
            limited.types("pkill -u lqchen sleep")
        assert seen.split() == ["inside", "inside", f"{8 * 1024 * MIB}", "512", "infinity"]


class TestChanges:
    def test_by_hand_they_are_put_back(self, gpu17: Host) -> None:
        gpu17.sh(f"sed -i s/^MemoryMax.*/MemoryMax=1G/ {DROP_IN}; systemctl daemon-reload")
        assert any("limit lqchen's container" in line for line in plan(gpu17))
        assert reconcile(gpu17).ok
        assert in_kernel(gpu17, "memory.max", "memory.limit_in_bytes") == f"{512 * MIB}"

    def test_a_kill_before_systemd_read_them_is_healed(self, gpu17: Host) -> None:
        gpu17.sh(f"sed -i s/^TasksMax.*/TasksMax=400/ {DROP_IN}; systemctl daemon-reload; "
                 f"sed -i s/^TasksMax.*/TasksMax=300/ {DROP_IN}")  # fmt: skip
        assert reconcile(gpu17).ok
        assert in_kernel(gpu17, "pids.max", "pids.max") == "300"

    def test_without_limits_the_defaults_hold_at_once(self, limited: Fleet) -> None:
        gpu17 = limited.gpu17
        limited.commits("None", NO_LIMITS)
        try:
            assert "give lqchen's container the default limits" in reconcile(gpu17).stdout
            everything = int(
                gpu17.sh("sed -n 's/^MemTotal: *\\([0-9]*\\).*/\\1/p' /proc/meminfo").stdout
            )
            now = shown(gpu17)
            assert int(now["MemoryMax"]) == pytest.approx(everything * 1024 * 0.9, rel=0.01)
            assert (now["TasksMax"], now["OOMPolicy"]) == ("16384", "continue")
            for way in ("true", "ssh gpu17-manage restart"):  # while it runs, and by its start
                asked = f"{way} && ssh gpu17 'df --output=size -B1 /dev/shm'"
                room = int(limited.types(asked).stdout.split()[-1])
                assert room == pytest.approx(int(now["MemoryMax"]) / 2, rel=0.01)
            assert gpu17.sh("ls -d /etc/systemd/system/lxc-gpu@*.d 2>&- || true").stdout == ""
        finally:
            limited.commits("Again", f"echo '{LIMITS}' >>registrations/gpu17/lqchen.yaml")
            assert reconcile(gpu17).ok
