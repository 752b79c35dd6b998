"""Device files in containers: real programs use them, and nothing leads from them elsewhere."""

from __future__ import annotations

import io
import shlex
import tarfile

import pytest
from laboratory.hosts import Host
from laboratory.images import packages
from laboratory.progress import Progress

from state.command import Finished
from tests.lab.fleet import Fleet

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
        with Progress() as progress, tarfile.open(fileobj=raw, mode="w") as archive:
            archive.add(packages.debs(progress, "sshfs", SSHFS), "debs")
        install = "tar -x && sudo dpkg -i debs/*.deb >dpkg.log"
        assert fleet.types(f"ssh gpu17 '{install}'", stdin=raw.getvalue()).ok
        assert says(fleet, LOOPBACK).split() == ["fuse.sshfs", "hello", "written"]

    def test_a_tunnel_as_vpns_make_it(self, fleet: Fleet, gpu17: Host) -> None:
        assert "10.99.0.1/24" in says(fleet, TUNNEL)
