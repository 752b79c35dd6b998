"""Device files in containers: real programs use them, and nothing leads from them elsewhere."""

from __future__ import annotations

import io
import json
import shlex
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from laboratory.hosts import Host
from laboratory.images import packages
from laboratory.progress import ProgressLines

from state.command import Finished, run
from tests.lab.fleet import Fleet, end_at_once, plan, reconcile
from tests.patience import eventually

SSHFS = ("sshfs", "fuse3", "libfuse3-3", "libglib2.0-0", "libffi8")
LOOPBACK = """
test -e ~/.ssh/loop || ssh-keygen -q -t ed25519 -N '' -f ~/.ssh/loop
cp ~/.ssh/loop.pub ~/.ssh/authorized_keys2
mkdir -p there here
echo hello >there/file
sshfs -o IdentityFile=~/.ssh/loop,StrictHostKeyChecking=no localhost:there here
trap 'fusermount3 -u here' EXIT
findmnt -no FSTYPE here
cat here/file
echo written >here/new
cat there/new
"""
TUNNEL = """
sudo ip tuntap add tun0 mode tun user lqchen
sudo ip addr add 10.99.0.1/24 dev tun0
ip -br addr show tun0
sudo ip tuntap del tun0 mode tun
"""
SILENT = """
cd /tmp
rm -f said
sudo setsid ./never-answers /home/lqchen >said 2>&1 </dev/null &
until grep . said; do sleep 0.1; done
"""
IMPATIENT = "/run/systemd/system/lxc-gpu@lqchen.service.d/tests.conf"
DEVICES = """
mkdir -p /dev/dri /dev/infiniband
rm -f /dev/kvm
mknod -m 660 /dev/kvm c 10 232
mknod -m 660 /dev/dri/card0 c 226 0
mknod -m 660 /dev/dri/renderD128 c 226 128
mknod -m 660 /dev/video0 c 81 0
"""
"""As a server with these devices has them; what is behind them, this machine need not have."""
NO_DEVICES = "rm -rf /dev/kvm /dev/dri /dev/infiniband /dev/video0"
PASSED_ON = """
echo "devices: [/dev/kvm, /dev/dri/renderD*, '/dev/infiniband/uverbs*']" >>servers/gpu17.yaml
echo "devices: [/dev/video0]" >>registrations/gpu17/lqchen.yaml
"""
NOT_PASSED_ON = "sed -i '/^devices:/d' servers/gpu17.yaml registrations/gpu17/*.yaml"
LISTED = "cd /dev; ls -ln fuse net/tun kvm dri/* infiniband/* video0 2>&- | sed 's/  */ /g'"
"""What of it is there: mode, owner, numbers, name."""
TRIES = """
cd /dev
mknod x c 10 229 && echo worked
mknod x b 7 0 && echo worked
rm fuse && echo worked
mv fuse x && echo worked
ln fuse x && echo worked
mount -o remount,bind,suid fuse && echo worked
mount -o remount,bind,exec fuse && echo worked
chmod 600 fuse && chown 1000:1000 fuse && echo its own
true
"""


def restart(fleet: Fleet, user: str = "lqchen") -> str:
    done = fleet.types("ssh gpu17-manage restart", user=user)
    assert done.ok, done.stderr
    return done.stdout


def inside(fleet: Fleet, script: str, user: str = "lqchen") -> Finished:
    """A script in somebody's container, as the user."""
    return fleet.types(f"ssh gpu17 bash -ec {shlex.quote(shlex.quote(script))}", user=user)


def says(fleet: Fleet, script: str, user: str = "lqchen") -> str:
    done = inside(fleet, script, user)
    assert done.ok, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def gpu17(fleet: Fleet) -> Host:
    """The server, with lqchen's container just started."""
    fleet.gpu17.sh("mkdir -p /dev/net; test -e /dev/net/tun || mknod -m 666 /dev/net/tun c 10 200")
    restart(fleet)
    return fleet.gpu17


class TestForEverybody:
    def test_a_folder_of_another_computer_by_sshfs(self, fleet: Fleet, gpu17: Host) -> None:
        """A file system by a program, mounted without root; the other computer is itself."""
        raw = io.BytesIO()
        with ProgressLines() as progress, tarfile.open(fileobj=raw, mode="w") as archive:
            archive.add(packages.debs(progress, "sshfs", SSHFS), "debs")
        install = "tar -x && sudo dpkg -i debs/*.deb >dpkg.log"
        assert fleet.types(f"ssh gpu17 '{install}'", stdin=raw.getvalue()).ok
        assert says(fleet, LOOPBACK).split() == ["fuse.sshfs", "hello", "written"]

    def test_a_tunnel_as_vpns_make_it(self, fleet: Fleet, gpu17: Host) -> None:
        assert "10.99.0.1/24" in says(fleet, TUNNEL)


@pytest.fixture
def impatient(gpu17: Host) -> Iterator[None]:
    """systemd waits for two seconds, not for half a minute, before it kills what doesn't end."""
    gpu17.write(IMPATIENT, "[Service]\nTimeoutStopSec=2\n")
    gpu17.sh("systemctl daemon-reload")
    yield
    gpu17.sh(f"rm {IMPATIENT}; systemctl daemon-reload")


class TestAProgramThatNeverAnswers:
    @pytest.mark.usefixtures("impatient")
    def test_who_waits_for_it_is_not_in_the_way_of_the_next_start(
        self, fleet: Fleet, gpu17: Host
    ) -> None:
        """Who waits can't be killed, and would keep the container's old network for ever.

        It is the home that doesn't answer, so that our own look at logins waits, too.
        """
        with tempfile.TemporaryDirectory() as folder:
            made = Path(folder) / "never-answers"
            source = Path(__file__).with_name("never_answers.c")
            run(["gcc", "-static", "-Wall", "-Werror", "-o", made, source])
            raw = made.read_bytes()
        push = "cat >/tmp/never-answers; chmod +x /tmp/never-answers"
        assert fleet.types(f"ssh gpu17 '{push}'", stdin=raw).ok
        assert says(fleet, SILENT) == "taken\n"
        assert fleet.types("ssh gpu17-manage").ok
        requests = "systemctl --plain --no-legend list-units 'lxc-gpu-root@*'"
        eventually(lambda: gpu17.sh(requests).stdout == "")  # none hangs
        restart(fleet)
        eventually(lambda: not gpu17.run(["pgrep", "never-answers"], check=False).ok)
        journal = gpu17.sh("journalctl -t lxc-gpu -o cat --no-pager").stdout
        assert "event=fuse-cut-off user=lqchen" in journal
        assert fleet.types("ssh gpu17 true").ok


@pytest.fixture(scope="class")
def passed_on(fleet: Fleet, gpu17: Host) -> Iterator[str]:
    """Devices for everybody on gpu17, and one for lqchen; what lqchen's start says of them."""
    gpu17.sh(f"{NO_DEVICES}; {DEVICES}")
    fleet.commits("Pass devices on", PASSED_ON)
    assert reconcile(gpu17).ok
    assert "/dev/kvm: NOT THERE. It came after" in fleet.types("ssh gpu17-manage status").stdout
    end_at_once(gpu17, "ann")
    assert fleet.types("ssh gpu17-manage", user="ann").ok
    yield restart(fleet)
    gpu17.sh(f"{NO_DEVICES}; rm -f /dev/video0")
    fleet.commits("Pass none on", NOT_PASSED_ON)
    assert reconcile(gpu17).ok


def listed(fleet: Fleet, user: str = "lqchen") -> dict[str, tuple[str, str, str]]:
    """Mode, owners and number of the device files in a container."""
    rows = (line.split() for line in says(fleet, LISTED, user).splitlines())
    return {row[-1]: (row[0], f"{row[2]}:{row[3]}", f"{row[4]}{row[5]}") for row in rows}


class TestPassedOn:
    def test_to_whom_the_state_says(self, fleet: Fleet, gpu17: Host, passed_on: str) -> None:
        everybodys = {
            "fuse": "10,229", "net/tun": "10,200", "kvm": "10,232", "dri/renderD128": "226,128"
        }  # fmt: skip
        mode, owner = "crw-rw-rw-", "0:0"
        assert listed(fleet, "ann") == {n: (mode, owner, of) for n, of in everybodys.items()}
        lqchens = everybodys | {"video0": "81,0"}
        assert listed(fleet) == {n: (mode, owner, of) for n, of in lqchens.items()}
        assert gpu17.sh("stat -c %a:%u:%g /dev/kvm").stdout == "660:0:0\n"

    def test_what_is_missing_is_left_out_and_said(
        self, fleet: Fleet, gpu17: Host, passed_on: str
    ) -> None:
        said = "This server has no /dev/infiniband/uverbs*."
        assert f"Note: A device is left out. {said} Sysadmin: `modprobe ib_uverbs`" in passed_on
        journal = gpu17.sh("journalctl -t lxc-gpu -o cat --no-pager").stdout
        assert "event=device-left-out user=lqchen code=device-missing" in journal
        status = fleet.types("ssh gpu17-manage status").stdout
        assert f"  device   /dev/infiniband/uverbs*: NOT THERE. {said}\n" in status
        assert "  device   /dev/kvm\n" in status
        facts = json.loads(fleet.types("ssh gpu17-manage status --json").stdout)["devices"]
        assert {each["name"]: each["there"] for each in facts} == {
            "/dev/kvm": True, "/dev/dri/renderD*": True, "/dev/infiniband/uverbs*": False,
            "/dev/video0": True,
        }  # fmt: skip
        assert (
            f"{said} Containers start without it."
            in gpu17.run(["lxc-gpu", "doctor"], check=False).stdout
        )

    def test_root_inside_changes_nobody_else_s(
        self, fleet: Fleet, gpu17: Host, passed_on: str
    ) -> None:
        """Its nodes' modes are its own; the same device of others and of the server stays."""
        look = "stat -c %a:%u:%g /dev/fuse /dev/kvm /run/lxc-gpu/devices/ann/*"
        before = gpu17.sh(look).stdout
        done = fleet.types("ssh gpu17 sudo bash -s", stdin=TRIES)
        assert done.stdout == "its own\n", done.stderr
        assert gpu17.sh(look).stdout == before
        assert listed(fleet)["fuse"][:2] == ("crw-------", "1000:1000")

    def test_nobody_else_passes_through(self, fleet: Fleet, gpu17: Host, passed_on: str) -> None:
        """Neither another person's account and ids, nor the folder for the person's own account.

        That one began the container's user namespace, and so may look into it (user_namespaces(7)).
        """
        ids = gpu17.sh("sed -n 's/^ann:\\([0-9]*\\):.*/\\1/p' /etc/subuid").stdout.strip()
        first = gpu17.sh("pgrep -o -P $(systemctl show -P MainPID lxc-gpu@lqchen)").stdout.strip()
        node = "/run/lxc-gpu/devices/lqchen/fuse"
        inside = f"/proc/{first}/root/dev/fuse"
        for who, *paths in (
            ("--reuid=ann --regid=ann --init-groups", node, inside),
            (f"--reuid={ids} --regid={ids} --clear-groups", node, inside),
            ("--reuid=lqchen --regid=lqchen --clear-groups", node),
        ):
            for path in paths:
                done = gpu17.run(["sh", "-c", f"setpriv {who} cat {path}"], check=False)
                assert "Permission denied" in done.stderr, (who, path, done.stderr)

    def test_what_is_not_what_it_is_called_is_left_out(
        self, fleet: Fleet, gpu17: Host, passed_on: str
    ) -> None:
        """A link in the server's /dev, or the number of another device."""
        gpu17.sh("ln -sf /dev/null /dev/kvm; mknod /dev/dri/renderD129 c 1 3")
        said = restart(fleet)
        gpu17.sh(f"{NO_DEVICES}; {DEVICES}")
        assert "/dev/kvm of this server isn't a character device, or a link leads there." in said
        assert "/dev/dri/renderD129 of this server has the number of /dev/null." in said
        assert not {"kvm", "dri/renderD129"} & listed(fleet).keys()
        assert "dri/renderD128" in listed(fleet)

    def test_what_is_taken_away_is_shut_in_a_container_that_runs(
        self, fleet: Fleet, gpu17: Host, passed_on: str
    ) -> None:
        opened = "exec 3<>/dev/{} && echo open"
        assert says(fleet, opened.format("fuse")) == "open\n"
        gpu17.sh("rm /dev/dri/renderD128; mknod -m 660 /dev/dri/renderD128 c 226 129")
        assert plan(gpu17) == [
            f"device: take /dev/dri/renderD128 from {user}'s container"
            for user in ("ann", "lqchen")
        ], "its number is another device's by now"
        fleet.commits(
            "No camera for lqchen", "sed -i '/^devices:/d' registrations/gpu17/lqchen.yaml"
        )
        assert reconcile(gpu17).ok
        shut = {"video0", "dri/renderD128"}
        for name, (mode, owner, _) in listed(fleet).items():
            assert (mode == "c---------") is (name in shut), name
            assert (owner == "65534:65534") is (name in shut), name
        for name in sorted(shut):
            done = inside(
                fleet, f"sudo chmod 666 /dev/{name} || sudo bash -c 'exec 3<>/dev/{name}'"
            )
            assert "Operation not permitted" in done.stderr
            assert "Permission denied" in done.stderr
        assert says(fleet, opened.format("fuse")) == "open\n"
        assert plan(gpu17) == []
