"""Project quotas by a real kernel, on an ext4 of its own: what the kind `disk_quota` makes of it.

A container's tree is written to from a user namespace with the container's ids; the kind is called
as a round calls it, by the server's own Python.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from laboratory.layout import SOURCE_INSIDE
from laboratory.machines.virtual_machine import VirtualMachine

from state.command import Finished
from state.view import Limits, to_json
from tests.lab.fleet import CONTAINERS, MARKER
from tests.unit.reconciler.views import RESIDENT, VIEW
from tests.vm.conftest import PATIENCE

MB = 1 << 20
DISK = "/srv/quota"
HOME = f"{DISK}/containers/lqchen"
ROUND = f"""
import json, sys
sys.path.insert(0, {SOURCE_INSIDE!r})
from reconciler.kinds.containers.disk_quota import DiskQuotaKind, use_of
from reconciler.rounds.converge import converge
from state.view import from_json
view = from_json(sys.stdin.read())
done = converge([DiskQuotaKind()], view)
use = use_of(view, "lqchen")
failures = [[failure.code, failure.message] for failure in done.failures]
print(json.dumps({{"changes": done.changes, "failures": failures, "use": use and vars(use)}}))
"""
NAMESPACE = f"""
setsid unshare --user sleep 3000 >/dev/null 2>&1 </dev/null & echo $! >{DISK}.pid
until test $(readlink /proc/$(cat {DISK}.pid)/ns/user) != $(readlink /proc/self/ns/user); do
    sleep 0.2
done
for map in uid_map gid_map; do
    echo "0 {RESIDENT.subid} {VIEW.subid_size}" >/proc/$(cat {DISK}.pid)/$map
done
"""
SWAPS = """
import ctypes, os
libc, n = ctypes.CDLL(None), 0
while n < 100 or not os.path.exists("enough"):
    for number in range(100):
        n += libc.renameat2(-100, b"d%d" % number, -100, b"l%d" % number, 2) == 0
os.rename("enough", "ended")
"""
"""Folders and links that lead out of the container change places, as fast as it goes."""
DEEP = """
import os
for _ in range(2100):
    os.mkdir("d")
    os.chdir("d")
"""


def round_of(host: VirtualMachine, limit: int | None) -> dict[str, Any]:
    """A round of this kind; what came of it, and what the kernel counts."""
    resident = replace(RESIDENT, limits=Limits(disk=limit))
    view = replace(VIEW, containers=f"{DISK}/containers", residents={"lqchen": resident})
    words = ["/usr/bin/python3", "-IS", "-c", ROUND]
    found: dict[str, Any] = json.loads(
        host.run(words, stdin=to_json(view), timeout=PATIENCE).stdout
    )
    return found


def inside(host: VirtualMachine, script: str) -> Finished:
    """Run a script as root of the container's user namespace, in its file system."""
    enter = f"nsenter --user --target $(cat {DISK}.pid) bash -euc {shlex.quote(script)}"
    words = ["bash", "-euc", f"cd {HOME}/rootfs; exec {enter}"]
    return host.run(words, timeout=PATIENCE, check=False)


def project(host: VirtualMachine, path: str) -> tuple[str, bool]:
    """What lsattr(1) says of the project, and whether it is passed on."""
    number, flags, _ = host.sh(f"lsattr -dp {path}").stdout.split(None, 2)
    return number, "P" in flags


@pytest.fixture
def disk(gpu17: VirtualMachine) -> Iterator[VirtualMachine]:
    """An ext4 that can have project quotas, which are on; on it, lqchen's tree."""
    gpu17.sh(f"""
        truncate -s 400M {DISK}.img
        mkfs.ext4 -q -O project,quota {DISK}.img
        mkdir {DISK}; mount -o loop,prjquota {DISK}.img {DISK}
        mkdir {DISK}/containers; cp {CONTAINERS}/{MARKER} {DISK}/containers
        mkdir -p {HOME}/rootfs/home/me {DISK}/outside/d
        echo mine >{HOME}/rootfs/home/me/file; echo other >{DISK}/outside/file
        ln {HOME}/rootfs/home/me/file {HOME}/rootfs/second
        ln -s {DISK}/outside {HOME}/rootfs/link; ln -s {DISK}/outside/file {HOME}/rootfs/home/link
        mkfifo {HOME}/rootfs/pipe
        head -c 10M /dev/zero >{HOME}/rootfs/old
        chown -hR {RESIDENT.subid}:{RESIDENT.subid} {HOME}/rootfs""", timeout=PATIENCE)  # fmt: skip
    gpu17.sh(NAMESPACE)
    yield gpu17
    gpu17.sh(f"""
        kill $(cat {DISK}.pid) || true
        umount {DISK}; rmdir {DISK}; rm {DISK}.img {DISK}.pid""", timeout=PATIENCE)  # fmt: skip


LIMITED = "disk_quota: let lqchen's container take 64.0 MiB of the disk"


def test_what_is_there_counts_and_the_rest_is_refused(disk: VirtualMachine) -> None:
    assert round_of(disk, None) == {"changes": [], "failures": [], "use": None}
    first = round_of(disk, 64 * MB)
    assert first["changes"] == [LIMITED], first
    assert first["use"]["limit"] == 64 * MB
    assert 10 * MB < first["use"]["used"] < 11 * MB, "what was there is counted"
    assert round_of(disk, 64 * MB)["changes"] == [], "nothing is left to do"
    assert project(disk, HOME) == ("20031", True)
    for path in ("rootfs", "rootfs/home/me", "rootfs/old", "rootfs/second"):
        assert project(disk, f"{HOME}/{path}")[0] == "20031", path
    for path in ("outside", "outside/file", "outside/d"):
        assert project(disk, f"{DISK}/{path}") == ("0", False), path

    done = inside(disk, "mkdir -p new/folder; head -c 100M /dev/zero >new/folder/big")
    assert not done.ok
    assert "Disk quota exceeded" in done.stderr
    disk.sh(f"sync -f {DISK}", timeout=PATIENCE)
    full = round_of(disk, 64 * MB)["use"]
    assert 63 * MB < full["used"] <= 64 * MB
    assert "64M" in disk.sh(f"df -h {HOME}/rootfs").stdout, "df shows the limit"
    disk.sh(f"head -c 30M /dev/zero >{DISK}/outside/neighbour")

    assert round_of(disk, 32 * MB)["changes"] == [LIMITED.replace("64.0", "32.0")]
    assert round_of(disk, 32 * MB)["use"] == {"used": full["used"], "limit": 32 * MB}
    assert not inside(disk, "echo more >more; sync more; head -c 1M /dev/zero >more").ok
    assert inside(disk, "rm -f new/folder/big more; head -c 10M /dev/zero >fits").ok
    gone = "disk_quota: let lqchen's container take as much of the disk as there is"
    assert round_of(disk, None) == {"changes": [gone], "failures": [], "use": None}
    assert inside(disk, "head -c 100M /dev/zero >big").ok
    assert round_of(disk, 64 * MB)["use"]["used"] > 110 * MB, "nothing is deleted"


def test_systems_change_places_within_the_limit(disk: VirtualMachine) -> None:
    round_of(disk, 64 * MB)
    disk.sh(f"""
        mkdir {HOME}/rootfs.new; chown {RESIDENT.subid}:{RESIDENT.subid} {HOME}/rootfs.new
        mv {HOME}/rootfs.new {HOME}/rootfs.before
        cd {SOURCE_INSIDE}; python3 -c 'from pathlib import Path as P
from state.files import exchange
exchange(P("{HOME}/rootfs"), P("{HOME}/rootfs.before"))'
        test -e {HOME}/rootfs.before/old -a ! -e {HOME}/rootfs/old
        mv {DISK}/outside/file {HOME}/rootfs/file""")  # fmt: skip
    assert project(disk, f"{HOME}/rootfs") == ("20031", True)
    assert project(disk, f"{HOME}/rootfs/file")[0] == "20031", "what comes from elsewhere counts"
    assert "Disk quota exceeded" in inside(disk, "head -c 60M /dev/zero >big").stderr
    disk.sh(f"rm -r {HOME}/rootfs.before")
    assert round_of(disk, 64 * MB)["use"]["used"] > 40 * MB
    assert inside(disk, "head -c 60M /dev/zero >big").ok


def test_nobody_inside_leaves_the_project(disk: VirtualMachine) -> None:
    round_of(disk, 64 * MB)
    for attempt in ("chattr -p 0 old", "chattr -p 20032 old", "chattr -P home", "chattr -p 0 .",
                    "chattr -R -p 7 home"):  # fmt: skip
        done = inside(disk, attempt)
        assert not done.ok or "Invalid argument" in done.stderr, attempt
    for path in ("rootfs", "rootfs/home", "rootfs/old", "rootfs/home/me/file"):
        assert project(disk, f"{HOME}/{path}")[0] == "20031", path
    assert project(disk, f"{HOME}/rootfs/home")[1]
    disk.sh(f"chattr -p 20032 {HOME}/rootfs/old")  # the control: root outside can


def test_races_lead_nowhere(disk: VirtualMachine) -> None:
    inside(disk, f"for n in $(seq 0 99); do mkdir d$n; ln -s {DISK}/outside l$n; done")
    swaps = f"cd {HOME}/rootfs && nsenter --user --target $(cat {DISK}.pid) python3 -c"
    disk.sh(f"({swaps} {shlex.quote(SWAPS)}) >/dev/null 2>&1 </dev/null &")
    for _ in range(3):
        round_of(disk, 64 * MB)
        disk.sh(
            f"chattr -p 0 {HOME}; find {HOME} -xdev -type d -exec chattr -P -p 0 {{}} + || true"
        )
    inside(disk, "touch enough")
    disk.sh(f"until test -e {HOME}/rootfs/ended; do sleep 0.2; done", timeout=PATIENCE)
    assert round_of(disk, 64 * MB)["failures"] == []
    for path in ("outside", "outside/file", "outside/d"):
        assert project(disk, f"{DISK}/{path}") == ("0", False), path
    for number in (0, 50, 99):
        found = disk.sh(f"cd {HOME}/rootfs; test -L d{number} && echo l || echo d").stdout.strip()
        assert project(disk, f"{HOME}/rootfs/{found}{number}") == ("20031", True)


def test_drift_is_healed_and_what_cannot_be_is_said(disk: VirtualMachine) -> None:
    round_of(disk, 64 * MB)
    for drift, planned in (
        (
            f'python3 -c \'import os; os.removexattr("{HOME}", "trusted.lxc-gpu.project")\'',
            "count what is in lqchen's container",
        ),
        (f"chattr -P {HOME}", "count what is in lqchen's container"),
        (f"chattr -p 0 {HOME}", LIMITED.removeprefix("disk_quota: ")),
    ):
        disk.sh(drift)
        assert round_of(disk, 64 * MB)["changes"] == [f"disk_quota: {planned}"], drift
    disk.sh(f"chattr -p 77 {HOME}")
    ((code, text),) = round_of(disk, 64 * MB)["failures"]
    assert (code, text) == (
        "quota-project", f"{HOME} already belongs to the project 77, which is not lxc-gpu's.",
    )  # fmt: skip
    disk.sh(f"chattr -p 0 {HOME}")
    assert inside(disk, f"python3 -c {shlex.quote(DEEP)}").ok
    deep = round_of(disk, 64 * MB)
    assert [code for code, _ in deep["failures"]] == ["quota-too-deep"]
    assert "Disk quota exceeded" in inside(disk, "head -c 100M /dev/zero >big").stderr
    assert inside(disk, "rm -r d").ok
    assert round_of(disk, 64 * MB)["failures"] == []


def test_quotas_that_are_off_are_left_alone(disk: VirtualMachine) -> None:
    disk.sh(f"umount {DISK}; mount -o loop,noquota {DISK}.img {DISK}", timeout=PATIENCE)
    assert round_of(disk, 64 * MB) == {"changes": [], "failures": [], "use": None}
    assert project(disk, HOME) == ("0", False)
