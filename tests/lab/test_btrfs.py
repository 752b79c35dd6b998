"""Containers on btrfs: systems are subvolumes, and snapshots of them take a moment."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from laboratory.hosts import Host

from state.command import Finished
from tests.lab.disks import containers_on
from tests.lab.fleet import CONTAINERS, MARKER, Fleet, reconcile

HERE = f"{CONTAINERS}/lqchen"
SUBVOLUME = "import os, sys; sys.exit(os.stat(sys.argv[1]).st_ino != 256)"
"""Whether a folder is a subvolume's outermost one."""
ASKED = r"""
import errno, fcntl, os, struct, sys
folder = os.open("/root", os.O_RDONLY)
def ask(number):
    try:
        arguments = struct.pack("=q", folder) + b"made".ljust(4088, b"\0")
        fcntl.ioctl(folder, number, bytearray(arguments))
    except OSError as error:
        return errno.errorcode[error.errno]
    return "done"
print(*[ask(n) for n in (0x50009401, 0x5000940e, 0x5000940f, 0x50009417, 0x50009418, 0x5000943f)])
import ctypes
buffer = ctypes.create_string_buffer(4096); buffer[8:12] = b"made"
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall(ctypes.c_long(16), ctypes.c_long(folder), ctypes.c_ulong(0x1_5000940e), buffer)
print(errno.errorcode[ctypes.get_errno()], os.listdir("/root").count("made"))
"""
"""Asks the kernel for everything that subvolumes can be asked for, and once with a number of which
it reads only a half."""


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
    assert host.run(["test", "-d", f"{HERE}/snapshots"]).ok
    fleet.commits("lqchen leaves gpu18", "git rm -q registrations/gpu18/lqchen.yaml")
    assert reconcile(host).ok
    assert host.run(["lxc-gpu", "purge", "lqchen", "--yes"], timeout=120).ok
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


def inside(fleet: Fleet, script: str) -> str:
    """What a script says in the container, as its root."""
    done = fleet.types("ssh gpu18 sudo python3 -", stdin=script)
    assert done.ok, done.stderr
    return done.stdout


@pytest.fixture
def none_yet(fleet: Fleet, gpu18: Host) -> None:
    """lqchen has no snapshots."""
    for name in listed(fleet):
        assert manage(fleet, f"snapshot --remove {name}").ok


def test_a_system_is_a_subvolume_in_which_nobody_makes_others(fleet: Fleet, gpu18: Host) -> None:
    assert gpu18.run(["python3", "-c", SUBVOLUME, f"{HERE}/rootfs/system"]).ok
    said = inside(fleet, ASKED).splitlines()
    assert said == [" ".join(["ENOTTY"] * 6), "ENOTTY 0"]


@pytest.mark.usefixtures("none_yet")
class TestCopies:
    def test_back_to_a_moment_and_forth(self, fleet: Fleet, gpu18: Host) -> None:
        write = "open('/srv/file', 'w').write('{}'); import os; os.chmod('/srv/file', 0o4755)"
        inside(fleet, write.format("then"))
        done = manage(fleet, "snapshot monday")
        assert done.ok, done.stderr
        assert "Snapshot monday is complete" in done.stdout
        assert "It is on the same disk as the container: no backup." in done.stdout
        inside(fleet, write.format("now"))
        assert "same disk" in manage(fleet, "snapshot --list").stdout
        closed = gpu18.sh(f"stat -c '%U %a' {HERE}/snapshots {HERE}/snapshots/monday").stdout
        assert closed == "root 700\n" * 2
        done = manage(fleet, "recover monday")
        assert done.ok, done.stderr
        read = "import os; print(open('/srv/file').read(), oct(os.stat('/srv/file').st_mode))"
        assert inside(fleet, read) == "then 0o104755\n"
        assert manage(fleet, "recover --undo").ok
        assert inside(fleet, read) == "now 0o104755\n"
        assert manage(fleet, "rebuild").ok
        done = manage(fleet, "recover monday")
        assert done.ok, done.stderr
        assert inside(fleet, read) == "then 0o104755\n"
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
        assert listed(fleet) == {"portable": "archive"}
        assert gpu18.sh(f"ls -A {HERE}").stdout.split() == ["rootfs"]
        done = manage(fleet, "recover portable")
        assert done.ok, done.stderr
        assert gpu18.run(["python3", "-c", SUBVOLUME, f"{HERE}/rootfs/system"]).ok

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
