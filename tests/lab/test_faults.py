"""A round that is killed at any of its steps is healed by the next one, and nothing is lost.

strace(1) kills the round at the Nth call of a kind: before each file is put in its place, each
folder made, each program started. Really each: N grows until the round gets through.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from laboratory.hosts import Host

from tests.lab.fleet import CONTAINERS, Fleet, end_at_once, plan, reconcile, running

NAME = "ann"
STEPS = ("rename", "mkdir", "vfork", "clone,clone3,fork")
"""How a round puts a file in its place, makes a folder, starts a program, becomes an owner."""
HOST = ["authorized_keys", "register_keys", "account", "subids", "usernet", "network", "port_map"]
PARTS = {"host": HOST, "container": ["container"]}
"""The kinds, in two parts: so that killing before each change of an account doesn't take the time
of unpacking a container again."""
MOST = 80
FORGET = f"""
systemctl stop lxc-gpu-watch
usermod --expiredate '' {NAME} 2>&- || true
userdel {NAME} 2>&- || true
rm -rf /home/{NAME} {CONTAINERS}/{NAME} {CONTAINERS}/.trash-*
sed -i '/^{NAME}[: ]/d' /etc/subuid /etc/subgid /etc/lxc/lxc-usernet
rm -f /etc/lxc-gpu/authorized_keys/{NAME}
iptables -t nat -F LXC-GPU-DNAT
"""
"""Takes away all that a round made for the user, and what a killed one left of it."""


@pytest.fixture(scope="module")
def server(fleet: Fleet) -> Iterator[Host]:
    """gpu18, on which ann is registered."""
    host = fleet.gpu18
    assert fleet.register(NAME, "gpu18").ok
    yield host
    fleet.commits(f"{NAME} leaves gpu18", f"git rm -q registrations/gpu18/{NAME}.yaml")
    fleet.rounds()
    if running(host, NAME):
        end_at_once(host, NAME)
    host.sh(f"{FORGET}; rm -f /var/lib/lxc-gpu/host_keys/{NAME}; systemctl start lxc-gpu-watch")


def _round(part: str) -> list[str]:
    kinds = [word for kind in PARTS[part] for word in ("--kind", kind)]
    return ["lxc-gpu", "reconcile", "--user", NAME, *kinds]


def _killed(host: Host, part: str, calls: str, number: int) -> bool:
    """Run a round that is killed at that call; False if it got through before."""
    inject = f"--inject={calls}:signal=KILL:when={number}"
    argv = ["strace", "-qq", "-o", "/dev/null", f"--trace={calls}", inject, *_round(part)]
    done = host.run(argv, timeout=120, check=False)
    assert done.ok or done.status in (137, -9), done.stdout + done.stderr
    return not done.ok


@pytest.mark.parametrize("calls", STEPS)
@pytest.mark.parametrize("part", PARTS)
def test_the_next_round_heals_whatever_a_killed_one_left(
    server: Host, part: str, calls: str
) -> None:
    for number in range(1, MOST):
        server.sh(FORGET)
        if part == "container":
            server.run(_round("host"))
        if not _killed(server, part, calls, number):
            break
        healed = server.run(_round(part), check=False, timeout=120)
        assert healed.ok, f"after a kill at {calls} {number}: {healed.stdout}{healed.stderr}"
    assert reconcile(server).ok
    assert plan(server) == []


def test_a_container_that_was_there_keeps_everything(server: Host) -> None:
    kept = f"{CONTAINERS}/{NAME}/rootfs/home/{NAME}/thesis"
    server.sh(f"echo 'three years of work' >{kept}")
    for number in range(1, 4):
        server.sh(f"sed -i '/ssh-ed/d' {CONTAINERS}/{NAME}/rootfs/home/{NAME}/.ssh/authorized_keys")
        assert _killed(server, "container", "clone,clone3,fork", number)
    assert reconcile(server).ok
    assert plan(server) == []
    assert server.read(kept) == "three years of work\n"


def test_leftovers_of_killed_rounds_do_not_pile_up(server: Host) -> None:
    left = server.sh(
        f"ls -A {CONTAINERS} {CONTAINERS}/{NAME} /etc/lxc-gpu/authorized_keys | grep -E '^[.]|new'"
        " || true"
    )
    assert left.stdout == ""
