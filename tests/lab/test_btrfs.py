"""Containers on btrfs: systems are subvolumes, and snapshots of them take a moment."""

from __future__ import annotations

import errno
import json
import re
import shlex
from collections.abc import Iterator

import pytest
from laboratory.hosts import Host

from state.command import Finished
from tests.lab.disks import containers_on
from tests.lab.fleet import CONTAINERS, MARKER, Fleet, reconcile

HERE = f"{CONTAINERS}/lqchen"
UNDERTAKEN = "/run/lxc-gpu/undertakings/lqchen"
SUBVOLUME = "import os, sys; sys.exit(os.stat(sys.argv[1]).st_ino != 256)"
"""Whether a folder is a subvolume's outermost one."""
ASKED = r"""
use Fcntl; sysopen(my $root, "/root", O_RDONLY) or die $!;
for (0x50009401, 0x5000940e, 0x5000940f, 0x50009417, 0x50009418, 0x5000943f, 0x4008941a) {
    my $arguments = pack("q a4088", fileno($root), "made");
    print ioctl($root, $_, $arguments) ? "done" : $! + 0, " ";
    print syscall(16, fileno($root), $_ + 0x100000000, $arguments) == 0 ? "done" : $! + 0, " ";
}
print -e "/root/made" ? "made" : "";
"""
"""Asks the kernel for everything that subvolumes can be asked for, each also with a number of which
it reads only a half (ioctl is 16 on x86-64)."""

DRIVER = """
import sys
sys.path.insert(0, "/opt/lxc-gpu/packages")
from reconciler.host.published import current_view
from reconciler.snapshots import copies, take
if sys.argv[1] == "take":
    take.copy("lqchen", "torn", lambda progress: None)
else:
    take.remove_copy("lqchen", copies.copy_of(current_view(), "lqchen", "torn"))
"""
"""The root helper's work without its socket, so that strace can kill it at a call."""


@pytest.fixture(scope="module")
def gpu18(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """The folder of the containers is a btrfs of its own; lqchen's container is on it, and runs."""
    host, folder = fleet.gpu18, tmp_path_factory.mktemp("btrfs")
    with containers_on(host, "btrfs", folder / "disk.img", "3G"):
        done = fleet.register("lqchen", "gpu18")
        assert done.ok, done.stderr
        assert fleet.types("ssh gpu18-manage").ok
        yield host
        leave(fleet)


def leave(fleet: Fleet) -> None:
    """lqchen leaves, and nothing stays on the disk: no folder, no subvolume."""
    host = fleet.gpu18
    for name in listed(fleet):
        assert manage(fleet, f"snapshot --remove {name}").ok
    assert manage(fleet, "snapshot").ok
    fleet.commits("lqchen leaves gpu18", "git rm -q registrations/gpu18/lqchen.yaml")
    assert reconcile(host).ok
    done = host.run(["lxc-gpu", "purge", "lqchen", "--yes"], timeout=120)
    assert "1 snapshot on the same disk, which --archive doesn't keep" in done.stderr
    assert host.sh(f"ls -A {CONTAINERS}").stdout == f"{MARKER}\n"
    assert host.sh("ls /var/lib/lxc-gpu/made").stdout == ""


def manage(fleet: Fleet, words: str, wait: float = 120) -> Finished:
    """What lqchen gets for a request; who asks for a yes gets it."""
    done = fleet.types(f"ssh gpu18-manage {words}", wait=wait)
    token = re.findall(r"--confirm (\w{8})", done.stderr + done.stdout)
    if done.status != 3 or not token:
        return done
    return fleet.types(f"ssh gpu18-manage {words} --confirm {token[-1]}", wait=wait)


def listed(fleet: Fleet) -> dict[str, str]:
    """lqchen's snapshots, with what kind each is."""
    facts = json.loads(manage(fleet, "snapshot --list --json").stdout)
    return {each["name"]: each["kind"] for each in facts["snapshots"]}


def at_a_call(host: Host, what: str, call: str, number: int) -> bool:
    """Take or remove the copy `torn`; whether strace(1) killed that at such a call."""
    only = f"--trace-path={HERE}/snapshots/.new" if call == "ioctl" else ""
    inject = f"--inject={call}:signal=KILL:when={number}"
    strace = f"strace -qq -o /dev/null --trace={call} {only} {inject}"
    helper = f"/usr/bin/python3 -IS -c {shlex.quote(DRIVER)} {what}"
    done = host.sh(f"{strace} {helper}", check=False)
    assert done.status in (0, 137), done.stdout + done.stderr
    return done.status == 137


def inside(fleet: Fleet, script: str, program: str = "sh") -> str:
    """What a script says in the container, as its root."""
    done = fleet.types(f"ssh gpu18 sudo {program}", stdin=script)
    assert done.ok, done.stderr
    return done.stdout


@pytest.fixture
def none_yet(fleet: Fleet, gpu18: Host) -> None:
    """lqchen has no snapshots."""
    for name in listed(fleet):
        assert manage(fleet, f"snapshot --remove {name}").ok


def test_a_system_is_a_subvolume_in_which_nobody_makes_others(fleet: Fleet, gpu18: Host) -> None:
    assert gpu18.run(["python3", "-c", SUBVOLUME, f"{HERE}/rootfs/system"]).ok
    assert inside(fleet, ASKED, "perl").split() == [str(errno.ENOTTY)] * 14
    by_shell = fleet.types("ssh gpu18-manage 'shell perl'", stdin=ASKED)
    assert by_shell.stdout.split() == [str(errno.ENOTTY)] * 14, by_shell.stderr
    as_root = fleet.types("ssh gpu18-manage 'shell runuser -u lqchen -- sudo id -u'")
    assert as_root.stdout == "0\n", as_root.stderr


@pytest.mark.usefixtures("none_yet")
class TestCopies:
    def test_back_to_a_moment_and_forth(self, fleet: Fleet, gpu18: Host) -> None:
        inside(fleet, "echo then >/srv/file; chmod 4755 /srv/file")
        done = manage(fleet, "snapshot monday")
        assert done.ok, done.stderr
        assert "Snapshot monday is complete" in done.stdout
        assert "It is on the same disk as the container, so it is not a backup." in done.stdout
        inside(fleet, "echo now >/srv/file; chmod 4755 /srv/file")
        assert "same disk" in manage(fleet, "snapshot --list").stdout
        closed = gpu18.sh(f"stat -c '%U %a' {HERE}/snapshots {HERE}/snapshots/monday").stdout
        assert closed == "root 700\n" * 2
        done = manage(fleet, "recover monday")
        assert done.ok, done.stderr
        read = "cat /srv/file; stat -c '%U %a' /srv/file"
        assert inside(fleet, read) == "then\nroot 4755\n"
        assert manage(fleet, "recover --undo").ok
        assert inside(fleet, read) == "now\nroot 4755\n"
        assert manage(fleet, "rebuild").ok
        done = manage(fleet, "recover monday")
        assert done.ok, done.stderr
        assert inside(fleet, read) == "then\nroot 4755\n"
        assert "no snapshot shares" in manage(fleet, "recover --forget").stdout

    def test_older_ones_make_room_and_named_ones_stay(self, fleet: Fleet, gpu18: Host) -> None:
        for words in ("named", "", "", "", "", ""):
            assert manage(fleet, f"snapshot {words}").ok
        assert len(listed(fleet)) == 5
        assert "named" in listed(fleet)
        done = manage(fleet, "snapshot named")
        assert "There is a snapshot `named` already" in done.stderr

    def test_an_archive_is_of_one_moment(self, fleet: Fleet, gpu18: Host) -> None:
        """Nothing changes while it is packed, and what was copied for it is gone afterwards."""
        fleet.types(
            "ssh gpu18 'nohup sh -c \"while :; do date >>/var/tmp/log; done\" >/dev/null 2>&1 &'"
        )
        done = manage(fleet, "snapshot --archive portable")
        assert done.ok, done.stderr
        assert "changed while being read" not in done.stdout
        fleet.types("ssh gpu18 pkill -f var/tmp/log")
        assert "`portable` already" in manage(fleet, "snapshot portable").stderr
        assert listed(fleet) == {"portable": "archive"}
        assert "frozen" not in gpu18.sh(f"ls -A {HERE}").stdout
        done = manage(fleet, "recover portable")
        assert done.ok, done.stderr
        assert gpu18.run(["python3", "-c", SUBVOLUME, f"{HERE}/rootfs/system"]).ok

    def test_files_come_back_and_share_their_blocks(self, fleet: Fleet, gpu18: Host) -> None:
        inside(fleet, """
            cd /srv; head -c 60M /dev/urandom >big; echo then >file; chmod 4750 file; ln -s /etc out
            mkdir -m 700 closed; echo c >closed/c; chown -R lqchen closed""")  # fmt: skip
        assert manage(fleet, "snapshot monday").ok
        inside(fleet, "echo now >/srv/file; mv /srv/closed /srv/elsewhere")
        free = "sync; stat --file-system --format='%a %S' " + CONTAINERS
        before = gpu18.sh(free).stdout.split()
        done = manage(fleet, "recover monday /srv/big /srv/file /srv/closed /srv/out/passwd")
        assert (
            "no /srv/out/passwd (there is /srv/out); the others are in /recovered/monday."
        ) in done.stderr
        after = gpu18.sh(free).stdout.split()
        assert (int(before[0]) - int(after[0])) * int(after[1]) < 30 << 20
        seen = inside(fleet, """
            cat /srv/file; cd /recovered; stat -c '%n %U %a' . monday; cd monday/srv; ls
            cmp big /srv/big; stat -c '%U %a' file closed; cat file closed/c""")  # fmt: skip
        assert seen.split("\n") == [
            "now", ". root 755", "monday lqchen 700", "big", "closed", "file",
            "root 4750", "lqchen 700", "then", "c", "",
        ]  # fmt: skip
        assert "frozen" not in gpu18.sh(f"ls -A {HERE}").stdout
        done = manage(fleet, "recover monday /srv/none")
        assert "no /srv/none (there is /srv); nothing was brought back." in done.stderr
        inside(fleet, "rm -r /srv/* /recovered")

    def test_what_kills_left_is_no_snapshot_and_goes(self, fleet: Fleet, gpu18: Host) -> None:
        gpu18.sh(f"""
            mkdir -p -m 700 {HERE}/snapshots/half {HERE}/snapshots/.new {HERE}/rootfs.frozen
            mkdir {HERE}/snapshots/half/system""")
        assert listed(fleet) == {}
        assert manage(fleet, "recover half").status == 1
        assert manage(fleet, "snapshot whole").ok
        assert listed(fleet) == {"whole": "copy"}
        assert (
            gpu18.sh(f"ls -A {HERE} {HERE}/snapshots | grep -c 'frozen\\|new'", check=False).stdout
            == "0\n"
        )
        gpu18.sh(f"rm -r {HERE}/snapshots/half")

    @pytest.mark.parametrize(
        ("work", "call"),
        [("take", call) for call in ("ioctl", "fsync", "rename")]
        + [("remove", call) for call in ("rename", "vfork")],
    )
    def test_a_kill_leaves_a_whole_snapshot_or_none(
        self, fleet: Fleet, gpu18: Host, work: str, call: str
    ) -> None:
        for number in range(1, 30):
            if work == "remove":
                assert manage(fleet, "snapshot torn").ok
            killed = at_a_call(gpu18, work, call, number)
            seen = "recover torn /etc/hostname; shell cat /recovered/torn/etc/hostname"
            if listed(fleet):
                assert all(manage(fleet, words).ok for words in seen.split("; ")), number
                assert manage(fleet, "snapshot --remove torn").ok
            if not killed:
                assert number > 1
                return
            assert manage(fleet, "snapshot torn").ok, number
            assert manage(fleet, "snapshot --remove torn").ok
            assert gpu18.sh(f"ls -A {HERE}/snapshots").stdout == "", number
        raise AssertionError("never got through")


@pytest.mark.usefixtures("none_yet")
def test_the_server_takes_those_that_are_due(fleet: Fleet, gpu18: Host) -> None:
    file = "servers/gpu18.yaml"
    fleet.commits("Hourly", f"echo 'snapshots: {{every: 1h, keep: 3}}' >>{file}")
    try:
        assert reconcile(gpu18).ok
        own_work = gpu18.sh(f"cat {UNDERTAKEN}").stdout
        for _ in range(2):  # the second time none is due
            gpu18.sh("systemctl start lxc-gpu-snapshots.service", timeout=60)
            assert list(listed(fleet).values()) == ["copy"]
        assert gpu18.sh(f"cat {UNDERTAKEN}").stdout == own_work
    finally:
        fleet.commits("Never", f"sed -i '/^snapshots:/d' {file}")
        assert reconcile(gpu18).ok
