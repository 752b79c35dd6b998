"""A round that is killed at any of its steps is healed by the next one, and nothing is lost.

strace(1) kills the round at the Nth call of a kind: before each file is put in its place, each
folder made, each program started. Really each: N grows until the round gets through.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from laboratory.hosts import Host

from tests.lab.archives import small_template
from tests.lab.fleet import CONTAINERS, Fleet, end_at_once, plan, reconcile, running, system_of

NAME = "ann"
STEPS = ("rename", "mkdir", "vfork", "clone,clone3,fork")
"""How a round puts a file in its place, makes a folder, starts a program, becomes an owner."""
HOST = ["authorized_keys", "register_keys", "account", "subids", "usernet", "network", "port_map"]
PARTS = {"host": HOST, "container": ["container"]}
"""The kinds, in two parts: so that killing before each change of an account doesn't take the time
of unpacking a container again."""
OUR_RENAME = re.compile(r'rename\("([^"]+)", "(/etc/(?:sub[ug]id|lxc/lxc-usernet|lxc-gpu/[^"]+))"')
MOST = 80
NEAR = "/root/near.git"
CONFIG = "/etc/lxc-gpu/server.toml"
FORGET_CONTAINER = f"""
rm -f /var/lib/lxc-gpu/made/{NAME}
test ! -e {CONTAINERS}/{NAME} || mv {CONTAINERS}/{NAME} {CONTAINERS}/.gone-$(date +%s%N)
"""
FORGET_HOST = f"""
usermod --expiredate '' {NAME} || true
userdel {NAME} || true
rm -rf /home/{NAME}
sed -i '/^{NAME}[: ]/d' /etc/subuid /etc/subgid /etc/lxc/lxc-usernet
rm -f /etc/lxc-gpu/authorized_keys/{NAME}
iptables -t nat -F LXC-GPU-DNAT
"""
FORGET = {"host": FORGET_HOST, "container": FORGET_CONTAINER}
"""Takes away what each part made for the user, and what a killed round left of it."""


@pytest.fixture(scope="module")
def server(fleet: Fleet) -> Iterator[Host]:
    """gpu18, where ann is registered; it reads a copy of the state on its own disk.

    Its containers are small ones from now on. (A round that is killed while it unpacks a whole one
    is in test_outages.py.)
    """
    host = fleet.gpu18
    assert fleet.register(NAME, "gpu18").ok
    host.sh(f"""
        cp -a /var/lib/lxc-gpu/state.git {NEAR}
        cp {CONFIG} {CONFIG}.far
        sed -i 's|^state_url.*|state_url = "{NEAR}"|' {CONFIG}""")
    with small_template(host):
        yield host
    host.sh(f"mv {CONFIG}.far {CONFIG}; rm -rf {NEAR}")
    fleet.commits(f"{NAME} leaves gpu18", f"git rm -q registrations/gpu18/{NAME}.yaml")
    fleet.rounds()
    if running(host, NAME):
        end_at_once(host, NAME)
    host.sh(f"{{ {FORGET_CONTAINER} {FORGET_HOST} }} 2>&-; rm -f /var/lib/lxc-gpu/host_keys/{NAME}")


def _round(part: str) -> str:
    return f"lxc-gpu reconcile --user {NAME} " + " ".join(f"--kind {k}" for k in PARTS[part])


def _killed(part: str, calls: str, number: str) -> str:
    """A command: a round that is killed at that call; its status is 0 if it got through before."""
    trace = f"--trace={calls} --inject={calls}:signal=KILL:when={number}"
    return f"strace -qq -o /dev/null {trace} {_round(part)}"


@pytest.mark.parametrize("calls", STEPS)
@pytest.mark.parametrize("part", PARTS)
def test_the_next_round_heals_whatever_a_killed_one_left(
    server: Host, part: str, calls: str
) -> None:
    done = server.sh(
        f"""
        for number in $(seq {MOST}); do
            {{ {FORGET[part]} }} >/dev/null 2>&1
            {_killed(part, calls, "$number")} >/tmp/killed 2>&1 && exit 0
            [ $? = 137 ] || {{ cat /tmp/killed; exit 1; }}
            {_round(part)} >/tmp/healed 2>&1 && continue
            echo "after a kill at {calls} $number:"; cat /tmp/healed; exit 1
        done
        echo "still not through after {MOST} kills"; exit 1
        """,
        timeout=300,
        check=False,
    )
    assert done.ok, done.stdout + done.stderr
    server.sh(f"rm -rf {CONTAINERS}/.gone-*")
    assert reconcile(server).ok
    assert plan(server) == []


def test_a_container_that_was_there_keeps_everything(server: Host) -> None:
    home = f"{system_of(server, NAME)}/home/{NAME}"
    kept = f"{home}/thesis"
    server.sh(f"echo 'three years of work' >{kept}")
    for number in range(1, 4):
        server.sh(f"sed -i '/ssh-ed/d' {home}/.ssh/authorized_keys")
        killed = server.sh(_killed("container", "clone,clone3,fork", str(number)), check=False)
        assert killed.status == 137, killed.stdout + killed.stderr
    assert reconcile(server).ok
    assert plan(server) == []
    assert server.read(kept) == "three years of work\n"


def test_leftovers_of_killed_rounds_do_not_pile_up(server: Host) -> None:
    left = server.sh(
        f"ls -A {CONTAINERS} {CONTAINERS}/{NAME} /etc/lxc-gpu/authorized_keys | grep -E 'trash|new'"
        " || true"
    )
    assert left.stdout == ""


def test_no_file_takes_its_place_before_it_is_on_the_disk(server: Host) -> None:
    """After a power loss there is the old file or the new one, never an empty one.

    strace shows the order: fsync of the new file, rename, fsync of the folder.
    """
    server.sh(f"{{ {FORGET_HOST} }} >/dev/null 2>&1 || true")
    trace = "strace -qq -f -y -o /tmp/order --trace=fsync,rename,renameat,renameat2"
    assert server.sh(f"{trace} {_round('host')}", timeout=120).ok
    synced: set[str] = set()
    renamed: list[str] = []
    for line in server.read("/tmp/order").splitlines():
        if found := re.search(r"fsync\(\d+<([^>]+)>", line):
            synced.add(found[1])
        elif found := OUR_RENAME.search(line):
            assert found[1] in synced, f"{found[2]} was not on the disk: {line}"
            renamed.append(found[2])
            synced.discard(found[2].rpartition("/")[0])
    assert f"/etc/lxc-gpu/authorized_keys/{NAME}" in renamed
    assert "/etc/subuid" in renamed
    assert {"/etc/lxc-gpu/authorized_keys", "/etc"} <= synced, "a folder was not made durable"


@pytest.mark.parametrize("when", ["2036-01-01", "1999-01-01"])
def test_files_from_a_clock_that_jumped_stop_nothing(server: Host, when: str) -> None:
    kept = "/var/lib/lxc-gpu/view.json /var/lib/lxc-gpu/status.json /var/lib/lxc-gpu/trusted"
    server.sh(f"touch -d {when} {kept} /etc/lxc-gpu/authorized_keys/{NAME}")
    server.sh(f'sed -i \'s/"finished": [0-9.]*/"finished": 2082758400.0/\' {kept}')
    server.sh(f"rm /etc/lxc-gpu/authorized_keys/{NAME}")
    assert reconcile(server).ok
    assert plan(server) == []
    assert re.search(r"ended [0-9]{1,2} s ago", server.run(["lxc-gpu", "status"]).stdout)
