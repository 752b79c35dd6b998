"""What only a kernel of its own shows: unified control groups, AppArmor, a true reboot."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from laboratory.layout import SOURCE_INSIDE
from laboratory.machines.virtual_machine import VirtualMachine

from state.command import Finished
from tests.lab.fleet import Fleet, reconcile, running
from tests.patience import eventually
from tests.vm.conftest import PATIENCE

CONFINED = "lxc-gpu-container (enforce)"
LIMIT = 512 * 2**20
"""Bytes of memory for the one who wants more."""
HOG = """perl -e 'my @hoard; push @hoard, "x" x 1_000_000 while 1'"""
UNIT = "lxc-gpu@{}.service"

FORBIDDEN = (
    "mount --bind /proc/sys/kernel /mnt", "mount --rbind /sys/kernel /mnt",
    "mount -t proc proc /mnt && mount --bind /mnt/sys/kernel /srv",
    "mount --bind /proc/sys /srv && mount --bind /srv/kernel/core_pattern /tmp/file",
    "mount --bind /proc/sys/kernel/modprobe /tmp/file",
    "mount --bind /proc/sysrq-trigger /tmp/file",
    "echo >/tmp/core_pattern", "echo >/tmp/kernel/modprobe", "echo >/tmp/sys/kernel/panic",
    "cat /tmp/kcore",
)  # fmt: skip
"""What root in a container might, by its user namespace alone, and may not: AppArmor forbids it.
Ordinary files stand for those of /proc, which the namespace closes before AppArmor is asked."""
LAID = "mkdir -p /tmp/kernel /tmp/sys/kernel; touch /tmp/file; echo x >/tmp/kcore"
"""What FORBIDDEN needs."""
FORBIDDEN_WHERE_TIGHT = (
    "mount -o remount,rw,bind /proc/sys && "
    "echo 31000 >/proc/sys/user/max_user_namespaces",
    "mount --bind /proc/sys /mnt",
    "mount --bind -o ro /sys/kernel /mnt",
    "mount -t proc proc /proc",
    "mount -t sysfs sysfs /sys/kernel",
)  # fmt: skip
"""The same on a server with `nesting: false`."""
DETACHED = """perl -e 'my ($kind, $name, $text) = @ARGV;
my $fs = syscall(430, $kind, 0); die if $fs < 0 or syscall(431, $fs, 6, 0, 0, 0) < 0;
my $mount = syscall(432, $fs, 0, 0); die if $mount < 0;
open(my $file, ">", "/proc/self/fd/$mount/$name") or die; print $file $text; close $file or die' """
"""Writes a file of a new proc or sysfs that is mounted nowhere: fsopen(2), fsmount(2)."""
CLONED = """perl -e 'my ($path) = @ARGV; my $tree = syscall(428, -100, $path, 0x80001);
die if $tree < 0; open(my $file, ">", "/proc/self/fd/$tree") or die' """
"""Opens a single file that has lost its name: open_tree(2), which AppArmor isn't asked about."""
ANYWAY = (
    *(f"mount -t proc proc /mnt && {CLONED} /mnt/{name}"
      for name in ("sys/kernel/core_pattern", "sys/kernel/modprobe", "sysrq-trigger")),
    f"mount -t sysfs sysfs /mnt && {CLONED} /mnt/kernel/uevent_helper",
    *(f"mount -t proc proc /mnt && echo x >/mnt/{name}"
      for name in ("sys/kernel/core_pattern", "sys/kernel/modprobe", "sysrq-trigger")),
    "mount -t sysfs sysfs /mnt && echo x >/mnt/kernel/uevent_helper",
    "mount --bind /proc/sys /srv && mount -o remount,rw,bind /srv && echo x >/srv/kernel/modprobe",
    *(f"{DETACHED} proc {name} x"
      for name in ("sys/kernel/core_pattern", "sys/kernel/modprobe", "sysrq-trigger")),
    f"{DETACHED} sysfs kernel/uevent_helper x",
    "mount -t binfmt_misc none /mnt && echo x >/mnt/register",
    "mount -t securityfs none /mnt", "mount -t debugfs none /mnt", "mount -t tracefs none /mnt",
    "cat /dev/.lxc/proc/version", "cat /sys/module/apparmor/parameters/enabled",
    "echo x >/sys/kernel/uevent_helper", "echo 1 >/proc/sysrq-trigger",
    "mount -o remount,rw,bind /proc/sys && echo x >/proc/sys/kernel/core_pattern",
    "echo mem >/sys/power/state", "cat /sys/kernel/security/apparmor/profiles",
    "echo changeprofile unconfined >/proc/self/attr/current", "dmesg -C",
)  # fmt: skip
"""What nobody may, one wall or two."""
WANTED = (
    "su lqchen -c 'unshare --user --map-root-user true'",
    "unshare --user --map-root-user --mount mount -t tmpfs none /mnt",
    "unshare --mount --pid --fork chroot / true",
    "unshare --pid --fork --mount-proc test -e /proc/1",
    "su lqchen -c 'unshare --user --map-root-user --pid --fork --mount-proc test -e /proc/1'",
    f"{DETACHED} proc sys/net/ipv4/ip_unprivileged_port_start 1023",  # as runc from 1.3.3 on
    f"{DETACHED} proc sys/kernel/shmmax 1000000",
    "mount -t proc proc /mnt && umount /mnt", "mount -t sysfs sysfs /mnt && umount /mnt",
    "mount -t tmpfs none /mnt && umount /mnt",
    "mkdir -p /tmp/there && mount --bind /srv /tmp/there && umount /tmp/there",
    "systemd-run -q --wait -p PrivateTmp=yes -p ProtectSystem=strict -p ProtectHome=yes "
    "-p PrivateDevices=yes -p ProtectKernelTunables=yes -p ProtectControlGroups=yes "
    "-p ProtectProc=invisible -p NoNewPrivileges=yes true",
    "test $(su lqchen -c 'id -un') = lqchen",
    "su lqchen -c 'sudo true && ping -c1 -W5 10.77.0.1'",
    "sleep 9 & kill $!", "hostname $(hostname)",
    "sysctl -qw net.ipv4.ip_unprivileged_port_start=1024",
)  # fmt: skip
"""What people do in a container, and may."""


def inside(fleet: Fleet, script: str, user: str = "lqchen") -> Finished:
    """Run a script as root in a user's container, in the way of everybody: ssh, sudo."""
    line = f"ssh gpu17 sudo bash -euc {shlex.quote(shlex.quote(script))}"
    return fleet.types(line, user=user, wait=PATIENCE)


def trying(attempts: Sequence[str]) -> str:
    """A script that prints those of the attempts that get through, each with mounts of its own."""
    each = (
        f"unshare --mount bash -euc {shlex.quote(line)} >&2 && echo {shlex.quote(line)} || true"
        for line in attempts
    )
    return "; ".join([*each, "echo tried"])


def entered(host: VirtualMachine, user: str, script: str) -> Finished:
    """The same as `inside`, in the container's namespaces but without AppArmor's profile."""
    enter = f"init=$(pgrep -P {shown(host, user, 'MainPID')}); exec nsenter --target $init --all "
    words = ["bash", "-euc", f'{enter} bash -euc "$1"', "bash", script]
    return host.run(words, timeout=PATIENCE, check=False)


def restart(fleet: Fleet, user: str) -> None:
    """Restart a user's container, as the user does."""
    done = fleet.types("ssh gpu17-manage restart", user=user, wait=PATIENCE)
    assert done.ok, done.stderr


def shown(host: VirtualMachine, user: str, name: str) -> str:
    """A property of a container's unit."""
    return host.run(["systemctl", "show", UNIT.format(user), "-P", name]).stdout.strip()


class TestMachine:
    def test_is_what_the_others_are_not(self, gpu17: VirtualMachine) -> None:
        assert gpu17.sh("systemd-detect-virt").stdout == "qemu\n"
        assert gpu17.sh("stat -f -c %T /sys/fs/cgroup").stdout == "cgroup2fs\n"
        assert gpu17.read("/sys/module/apparmor/parameters/enabled") == "Y\n"
        assert gpu17.boot_state() == "running"

    def test_kernel_settings_for_containers_are_in_effect(self, gpu17: VirtualMachine) -> None:
        """Set-up has systemd apply them; LXC's own file would leave inotify at 1024."""
        names = "fs.inotify.max_user_instances kernel.keys.maxkeys kernel.perf_event_paranoid"
        assert gpu17.sh(f"sysctl -n {names}").stdout.split() == ["8192", "2000", "2"]
        bridges = "net.bridge.bridge-nf-call-iptables"
        assert gpu17.sh(f"sysctl -n {bridges}").stdout == "0\n", (
            "br_netfilter is there for us alone"
        )

    def test_commands_are_run_as_on_other_hosts(self, gpu17: VirtualMachine) -> None:
        words = [
            "sh",
            "-c",
            'cat; printf "%s|" "$@" "$EXTRA" >&2; exit 7',
            "sh",
            "a  b",
            "it's $HOME",
        ]
        done = gpu17.run(words, stdin="in\n", env={"EXTRA": "*"}, check=False)
        assert (done.status, done.stdout, done.stderr) == (7, "in\n", "a  b|it's $HOME|*|")
        gpu17.write("/root/new folder/it's", "ä\n", 0o600)
        assert gpu17.read("/root/new folder/it's") == "ä\n"

    def test_lab_shows_it(self, gpu17: VirtualMachine) -> None:
        from laboratory import report
        from laboratory.hosts import Lab

        (line,) = (h for h in report.observe(Lab(gpu17.place)).hosts if h.name == "gpu17")
        assert (line.kind, line.state) == ("virtual machine", "running")


class TestConfinement:
    def test_containers_run_under_the_profile(self, fleet: Fleet) -> None:
        labels = "cat /proc/1/attr/current /proc/self/attr/current"
        for user in ("lqchen", "ann"):
            assert inside(fleet, labels, user).stdout.splitlines() == [CONFINED] * 2

    def test_so_does_what_the_verb_shell_runs(self, fleet: Fleet) -> None:
        """F: by the namespaces, with the profile and in the control group of the container."""
        typed = "shell cat /proc/self/attr/current /proc/self/cgroup /proc/1/cgroup"
        done = fleet.types(f"ssh gpu17-manage {shlex.quote(typed)}", wait=PATIENCE)
        label, ours, init = done.stdout.splitlines()
        assert (label, ours) == (CONFINED, init)

    def test_its_systemd_is_content(self, fleet: Fleet) -> None:
        done = inside(fleet, "systemctl is-system-running --wait; systemctl --failed --no-legend")
        assert done.stdout == "running\n", done.stdout + done.stderr

    def test_apparmor_forbids(self, fleet: Fleet, gpu17: VirtualMachine) -> None:
        """Each attempt gets through where only the profile is missing."""
        entered(gpu17, "lqchen", LAID)
        assert inside(fleet, trying(FORBIDDEN)).stdout == "tried\n"
        control = entered(gpu17, "lqchen", trying(FORBIDDEN))
        assert control.stdout.splitlines() == [*FORBIDDEN, "tried"], control.stderr

    def test_nobody_may(self, fleet: Fleet, gpu17: VirtualMachine) -> None:
        facts = (
            "cat /proc/sys/kernel/{core_pattern,modprobe}; ls /sys/kernel/security/apparmor/policy"
        )
        before = gpu17.sh(facts).stdout
        done = inside(fleet, trying(ANYWAY))
        assert done.stdout == "tried\n", done.stderr
        assert gpu17.sh(facts).stdout == before

    def test_what_it_forbids_is_in_the_servers_journal(self, gpu17: VirtualMachine) -> None:
        told = gpu17.sh("journalctl -k -g 'apparmor=.DENIED.' --no-pager").stdout
        assert 'profile="lxc-gpu-container" name="/mnt/"' in told

    def test_what_people_want_works(self, fleet: Fleet) -> None:
        tried = [f"bash -c {shlex.quote(line)} >&2 || echo {shlex.quote(line)}" for line in WANTED]
        done = inside(fleet, "; ".join([*tried, "echo tried"]))
        assert done.stdout == "tried\n", done.stderr

    def test_where_engines_inside_are_not_wanted(self, fleet: Fleet, gpu17: VirtualMachine) -> None:
        line = "nesting: false"
        fleet.commits("No engines inside on gpu17", f"echo '{line}' >>servers/gpu17.yaml")
        try:
            assert reconcile(gpu17).ok
            restart(fleet, "ann")
            label = inside(fleet, "cat /proc/1/attr/current; ls -d /dev/.lxc || true", "ann").stdout
            assert label == "lxc-gpu-container-tight (enforce)\n"
            assert inside(fleet, trying(FORBIDDEN_WHERE_TIGHT), "ann").stdout == "tried\n"
            control = entered(gpu17, "ann", trying(FORBIDDEN_WHERE_TIGHT))
            assert control.stdout.splitlines() == [*FORBIDDEN_WHERE_TIGHT, "tried"], control.stderr
        finally:
            fleet.commits("Engines inside again", f"sed -i '/^{line}/d' servers/gpu17.yaml")
            assert reconcile(gpu17).ok

    def test_missing_profile_is_said_and_mended(self, fleet: Fleet, gpu17: VirtualMachine) -> None:
        profile = "/etc/apparmor.d/lxc-gpu-container"
        gpu17.sh(f"apparmor_parser --remove {profile}; rm {profile}")
        restart(fleet, "ann")
        assert inside(fleet, "cat /proc/1/attr/current", "ann").stdout == "unconfined\n"
        events = gpu17.sh("journalctl -t lxc-gpu -g event=unconfined --no-pager").stdout
        assert "event=unconfined user=ann" in events
        findings = gpu17.run(["lxc-gpu", "doctor"], timeout=PATIENCE, check=False).stdout
        wrong = [line for line in findings.splitlines() if line.startswith("WRONG")]
        assert any("Its profile lxc-gpu-container is not loaded" in line for line in wrong), wrong
        done = gpu17.run([f"{SOURCE_INSIDE}/setup/gpu-server"], timeout=PATIENCE)
        assert "load AppArmor's profile lxc-gpu-container" in done.stdout
        restart(fleet, "ann")
        assert inside(fleet, "cat /proc/1/attr/current", "ann").stdout.strip() == CONFINED


class TestLimits:
    @pytest.fixture(scope="class")
    @classmethod
    def limited(cls, fleet: Fleet, gpu17: VirtualMachine) -> Iterator[str]:
        """lqchen has little memory, for the time being; the path of the container's group."""
        limits = f"limits: {{memory: {LIMIT // 2**20}M}}"
        take_back = "sed -i '/^limits:/d' registrations/gpu17/lqchen.yaml"
        line = f"{take_back}; echo '{limits}' >>registrations/gpu17/lqchen.yaml"
        fleet.commits("Little memory for lqchen", line)
        assert reconcile(gpu17).ok
        yield f"/sys/fs/cgroup{shown(gpu17, 'lqchen', 'ControlGroup')}"
        fleet.commits("As much memory as everybody", take_back)
        assert reconcile(gpu17).ok

    def test_groups_below_are_the_containers_own(self, fleet: Fleet, gpu17: VirtualMachine) -> None:
        group = shown(gpu17, "lqchen", "ControlGroup")
        assert group.endswith("/lxc-gpu.slice/lxc-gpu@lqchen.service")
        controllers = inside(fleet, "cat /sys/fs/cgroup/cgroup.controllers").stdout.split()
        assert {"cpu", "memory", "pids"} <= set(controllers)
        limit = "cat /sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup)/memory.max"
        done = inside(fleet, f"systemd-run -q --wait --pipe -p MemoryMax=50M bash -c '{limit}'")
        assert done.stdout == f"{50 * 2**20}\n", done.stderr

    def test_container_sees_its_limit(self, fleet: Fleet, limited: str) -> None:
        total = inside(fleet, "sed -n 's/^MemTotal: *//p' /proc/meminfo").stdout
        assert total == f"{LIMIT // 1024} kB\n"

    def test_hog_is_killed_while_the_neighbour_answers(
        self, fleet: Fleet, gpu17: VirtualMachine, limited: str
    ) -> None:
        begun = {user: shown(gpu17, user, "MainPID") for user in ("lqchen", "ann")}
        with ThreadPoolExecutor() as pool:
            hog = pool.submit(fleet.types, f"ssh gpu17 {shlex.quote(HOG)}", wait=PATIENCE)
            answers = 0
            while not hog.done() or answers == 0:
                assert inside(fleet, "echo here", "ann").stdout == "here\n"
                answers += 1
        assert hog.result().status in (137, 255), hog.result().stderr
        events = dict(line.split() for line in gpu17.read(f"{limited}/memory.events").splitlines())
        assert int(events["oom_kill"]) >= 1
        assert int(gpu17.read(f"{limited}/memory.current")) < LIMIT
        assert fleet.types("ssh gpu17 echo still here", wait=PATIENCE).stdout == "still here\n"
        assert {user: shown(gpu17, user, "MainPID") for user in begun} == begun
        neighbours = f"/sys/fs/cgroup{shown(gpu17, 'ann', 'ControlGroup')}/memory.events"
        assert "oom_kill 0\n" in gpu17.read(neighbours)


class TestReboot:
    def test_server_and_containers_come_back_by_themselves(
        self, fleet: Fleet, gpu17: VirtualMachine
    ) -> None:
        done = fleet.types("ssh gpu17-manage stop", user="ann", wait=PATIENCE)
        assert done.ok, done.stderr
        before = time.time()
        assert gpu17.reboot() == "running", gpu17.failed_units()
        eventually(lambda: running(gpu17, "lqchen"), PATIENCE)
        eventually(lambda: fleet.types("ssh gpu17 true", wait=PATIENCE).ok, PATIENCE)
        assert inside(fleet, "cat /proc/1/attr/current").stdout.strip() == CONFINED
        status = "/var/lib/lxc-gpu/status.json"
        eventually(lambda: json.loads(gpu17.read(status))["report"]["finished"] > before, PATIENCE)
        assert json.loads(gpu17.read(status))["report"]["failures"] == []
        assert not running(gpu17, "ann"), "who was shut down stays down"
        loaded = gpu17.sh("cut -d' ' -f1 /proc/modules").stdout.split()
        assert {"overlay", "br_netfilter", "tun"} <= set(loaded), "no container can load a module"
