"""`recover` that is killed, cut off or out of room: a whole system is there, and work goes on."""

from __future__ import annotations

import re
import shlex

import pytest
from laboratory.hosts import Host

from state.command import Finished
from tests.lab.archives import link, packed, system
from tests.lab.fleet import (
    CONTAINERS,
    SYSTEM,
    Fleet,
    end_at_once,
    in_container,
    plan,
    reconcile,
    running,
)
from tests.lab.recovering import ASIDE, FOLDER, agreed, driven, inside, manage, working
from tests.patience import eventually

KEEPS_HOME = """
import sys
sys.path.insert(0, "/opt/lxc-gpu/packages")
from reconciler.requests import exchange
from reconciler.systems.next_system import FromTemplate, WithHome
tell = lambda progress: None
exchange.replace("lqchen", "rebuild", None, FromTemplate("lqchen", "debian-12", tell), tell,
                 at_rest=WithHome("lqchen", tell))
"""
"""What `rebuild --keep-home` does after the yes."""
SENT = "/root/small.tar.zst"
SENDS_ON = "(head -c 100 small.tar.zst; sleep 60)"
"""Somebody who begins to send a system, and doesn't go on."""
MARKER = f"cat {SYSTEM}/etc/marker; echo; test -e {SYSTEM}/home && ls -A {FOLDER}"


@pytest.fixture
def sent(fleet: Fleet, small_system: Host) -> Host:
    """The server; there and on the laptop lies a small system, and one is in place."""
    raw = packed(system(marker="new"))
    small_system.sh(f"cat >{SENT}", stdin=raw)
    small_system.sh(f"cd {FOLDER}; rm -rf rootfs.before; echo old >{SYSTEM}/etc/marker")
    fleet.laptop.sh("cat >small.tar.zst", user="lqchen", stdin=raw)
    return small_system


def drives(host: Host, setting: str = "", user: str = "lqchen", at: str = "") -> Finished:
    """The system that lies on the server comes."""
    return driven(host, {"from-stdin": ""}, SENT, user=user, setting=setting, at=at)


@pytest.mark.parametrize(
    ("call", "step"),
    [("rename", 1), ("renameat2", 1), ("mkdir", 1), ("vfork", 1), ("poll", 6), ("fsync", 1)],
)
def test_a_kill_leaves_a_whole_system_and_is_healed(sent: Host, call: str, step: int) -> None:
    """strace(1) kills the helper at each `step`-th such call, until it gets through."""
    for number in range(1, 30 * step, step):
        sent.sh(f"cd {FOLDER}; rm -rf rootfs.before; echo old >{SYSTEM}/etc/marker")
        kill = f"--trace={call} --inject={call}:signal=KILL:when={number}"
        done = drives(sent, at=f"strace -qq -o /dev/null {kill}")
        marker, *there = sent.sh(MARKER).stdout.split()
        if done.ok:
            assert (marker, there) == ("new", ["rootfs", "rootfs.before"])
            assert number > 1
            return
        assert done.status == 137, done.stdout + done.stderr
        assert marker in ("old", "new"), "not a whole system"
        healed = drives(sent)
        assert healed.ok, f"after a kill at {call} {number}: {healed.stdout}"
        assert sent.sh(MARKER).stdout.split() == ["new", "rootfs", "rootfs.before"]
    raise AssertionError("never got through")


def test_the_copied_home_is_on_the_disk_before_the_exchange(sent: Host) -> None:
    helper = f"/usr/bin/python3 -IS -c {shlex.quote(KEEPS_HOME)}"
    calls = "strace -f -qq -o /root/calls --trace=execve,syncfs,renameat2"
    sent.sh(f"{calls} {helper}", timeout=120)
    seen = re.findall(r"/cp\"(?=, )|syncfs|renameat2", sent.read("/root/calls"))
    assert seen[-3:] == ['/cp"', "syncfs", "renameat2"]


def test_an_exchange_that_fails_keeps_the_previous_system(sent: Host) -> None:
    sent.sh(f"mkdir {FOLDER}/rootfs.before; echo kept >{FOLDER}/rootfs.before/mine")
    fails = "strace -qq -o /dev/null --trace=renameat2 --inject=renameat2:error=EINVAL"
    done = drives(sent, at=fails)
    assert done.stdout.startswith("no-exchange "), done.stdout + done.stderr
    assert sent.sh(MARKER).stdout.split() == ["old", "rootfs", "rootfs.before"]
    assert sent.read(f"{FOLDER}/rootfs.before/mine") == "kept\n"


def test_a_killed_helper_leaves_nobody_behind(fleet: Fleet, sent: Host) -> None:
    fleet.types(f"{{ {SENDS_ON} | ssh gpu17-manage recover --from-stdin; }} >said 2>&1 &")
    eventually(lambda: "zstd" in working(sent), 30)
    eventually(lambda: "under way since" in manage(fleet, "status").stdout, 30)
    assert manage(fleet, "recover --from-stdin", b"x").stderr.startswith("✗ Other work on your")
    assert reconcile(sent).ok, "a round doesn't wait for who sends"
    sent.sh("systemctl kill --signal=KILL 'lxc-gpu-root@*'")
    eventually(lambda: working(sent) == "")
    eventually(lambda: "ended without an answer" in fleet.types("cat said").stdout)
    assert "it was killed; nothing was lost" in manage(fleet, "status").stdout
    assert drives(sent).ok
    assert sent.sh(MARKER).stdout.split() == ["new", "rootfs", "rootfs.before"]


def test_a_lost_connection_changes_nothing(fleet: Fleet, sent: Host) -> None:
    line = "{ echo $BASHPID >pid; exec ssh gpu17-manage recover --from-stdin; }"
    fleet.types(f"{{ {SENDS_ON} | {line}; }} >said 2>&1 &")
    eventually(lambda: "zstd" in working(sent), 30)
    fleet.types("kill -9 $(cat pid)")
    eventually(lambda: "only the beginning came" in manage(fleet, "status").stdout, 30)
    assert sent.sh(MARKER).stdout.split() == ["old", "rootfs"]


def test_who_stops_sending_is_not_waited_for(fleet: Fleet, sent: Host) -> None:
    sent.sh("rm -f /root/pipe; mkfifo /root/pipe")
    sends = f"(head -c 100 {SENT}; sleep 5) >/root/pipe"
    sent.sh(f"{{ {sends}; }} >/dev/null 2>&1 </dev/null &")
    done = driven(sent, {"from-stdin": ""}, "/root/pipe", setting="extract.STALL = 1")
    assert done.stdout.startswith("stalled ")
    assert sent.sh(MARKER).stdout.split() == ["old", "rootfs"]


def test_a_bomb_leaves_room_for_others(fleet: Fleet, sent: Host) -> None:
    """On a disk of its own: the reserve is touched, and never used up.

    Half of it is more than tar fills from one look at the room to the next.
    """
    disk = f"{CONTAINERS}/ann"
    if running(sent, "ann"):
        end_at_once(sent, "ann")
    sent.sh(f"""
        mv {disk} {CONTAINERS}/.ann; mkdir -m 711 {disk}
        mount -t tmpfs -o size=1600M,nr_inodes=30000,mode=711 none {disk}
        mkdir {disk}/rootfs; chown --reference={CONTAINERS}/.ann/rootfs {disk}/rootfs
        truncate -s 4G /root/zeros
        mkdir /root/many; cd /root/many; seq 50000 | xargs touch""")
    half = "free_space.RESERVE = 0.5"
    try:
        for what in ("zeros", "many"):
            sent.sh(f"cd /root; tar -c {what} | zstd -q -f -o {SENT}", timeout=120)
            done = drives(sent, half, user="ann")
            assert done.status == 1
            assert done.stdout == "disk-full details: \n", "it was tar that ran into the end"
            assert sent.sh(f"ls -A {disk}").stdout == "rootfs\n"
            done = drives(sent, "free_space.RESERVE = 0", user="ann")
            assert done.stdout.startswith("disk-full ")
            assert sent.sh(f"ls -A {disk}").stdout == "rootfs\n"
    finally:
        sent.sh(f"cd /; umount {disk}; rmdir {disk}; mv {CONTAINERS}/.ann {disk}; "
                "rm -r /root/zeros /root/many")  # fmt: skip


def test_rounds_take_nothing_half_made_for_a_system(fleet: Fleet, sent: Host) -> None:
    sent.sh(f"mkdir -p {FOLDER}/rootfs.new/etc {FOLDER}/rootfs.before/etc {FOLDER}/.trash-x/y")
    assert reconcile(sent).ok
    assert plan(sent) == []
    done = agreed(fleet, "recover --forget")
    assert done.ok, done.stderr
    assert sent.sh(MARKER).stdout.split() == ["old", "rootfs"]


def test_a_system_that_does_not_come_up_can_be_left(fleet: Fleet, sent: Host) -> None:
    """lqchen's real container becomes the small one, which can't start, and goes back."""
    small = f"{CONTAINERS}/.small"
    sent.sh(f"mv {FOLDER} {small}; mv {ASIDE} {FOLDER}")
    try:
        assert manage(fleet, "start").ok
        raw = packed(system(link("./home/x", "/etc")))
        done = manage(fleet, "recover --from-stdin", raw)
        assert done.status == 1
        assert "the one in place now doesn't come up." in done.stderr
        assert "To go back: `ssh gpu17-manage recover --undo`" in done.stderr
        assert agreed(fleet, "recover --undo").ok
        assert manage(fleet, "start").ok
        assert inside(fleet, "echo here") == "here\n"

        inside(fleet, "sudo mv /home /homes; sudo ln -s /etc /home")
        done = agreed(fleet, "rebuild --keep-home")
        assert done.status == 1
        assert "✗ /home in your container isn't a folder" in done.stderr
        assert running(sent, "lqchen"), "it was not started again"
        in_container(sent, "lqchen", "rm home; mv homes home")
        assert agreed(fleet, "recover --forget").ok
    finally:
        end_at_once(sent, "lqchen")
        sent.sh(f"mv {FOLDER} {ASIDE}; mv {small} {FOLDER}")
