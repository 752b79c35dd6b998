"""A revoked key opens nothing: not what it had opened before, either."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from laboratory.hosts import Host

from state.command import Finished
from tests.lab.fleet import BARE, KEYS, SYSTEM, Fleet, at_work_on, plan, reconcile, running
from tests.patience import eventually

SECOND = ".ssh/second"
BY_SECOND = f"-i ~/{SECOND} -o IdentitiesOnly=yes"
MASTER = "-o ControlMaster=yes -o ControlPersist=yes -fN"
"""Opens a connection over which nothing runs."""
END_INSIDE = r"""
first=$(pgrep -P $(systemctl show --property=MainPID --value lxc-gpu@lqchen))
pkill --ns $first --nslist pid -f '^sshd(-session)?: [a-z_]'
"""
"""What docs/sysadmins/users.md says for this."""
USERS = "systemctl list-units --plain --no-legend 'lxc-gpu-root@*' | grep -c -- -$(id -u {})[.]"
"""Counts the requests of a user that the root helper is doing."""


@pytest.fixture(scope="module")
def two_keys(fleet: Fleet) -> Iterator[Fleet]:
    """lqchen has two keys, and a container that runs."""
    fleet.types(f"rm -f {SECOND}* master-*; ssh-keygen -q -t ed25519 -N '' -f {SECOND}")
    key = " ".join(fleet.laptop.read(f"/home/lqchen/{SECOND}.pub").split()[:2])
    fleet.commits("lqchen has a second key", f"echo '  - {key}' >>users/lqchen.yaml")
    assert reconcile(fleet.gpu17).ok
    if not running(fleet.gpu17, "lqchen"):
        assert fleet.types("ssh gpu17-manage start").ok
    yield fleet
    fleet.commits("lqchen has one key", f"sed -i '\\|{key}|d' users/lqchen.yaml")
    fleet.rounds()
    fleet.types(f"for name in ~/master-*; do ssh -O exit -S $name x; done; rm -f {SECOND}*")


def second(fleet: Fleet) -> str:
    """The second key, without its type."""
    return fleet.laptop.read(f"/home/lqchen/{SECOND}.pub").split()[1]


def opens(fleet: Fleet, name: str, to: str, options: str = "") -> None:
    """A connection that stays open, with nothing running over it."""
    assert fleet.types(f"rm -f ~/{name}; ssh {options} {MASTER} -S ~/{name} {to}").ok
    assert is_open(fleet, name)


def is_open(fleet: Fleet, name: str) -> bool:
    return fleet.types(f"ssh -O check -S ~/{name} x").ok


def over(fleet: Fleet, name: str, words: str) -> Finished:
    """Ask for something over an open connection, and over no other."""
    alone = "-o ControlMaster=no -o ProxyCommand=false -F none -o LogLevel=ERROR"
    return fleet.types(f"ssh -S ~/{name} {alone} x {words}")


def in_background(fleet: Fleet, name: str, line: str) -> None:
    """Something that takes its time; `alive` says whether it is still at it."""
    fleet.types(f"rm -f {name}; ( {line} ) >{name} 2>{name}.err </dev/null & echo $! >{name}.pid")
    eventually(lambda: fleet.types(f"test -s {name}").ok)


def alive(fleet: Fleet, name: str) -> bool:
    return fleet.types(f"kill -0 $(cat {name}.pid) && pgrep -P $(cat {name}.pid) ssh").ok


def requests(fleet: Fleet) -> int:
    return int(fleet.gpu17.sh(f"{USERS.format('lqchen')} || true").stdout)


def test_a_round_tells_on_which_day_a_key_was_last_used(two_keys: Fleet) -> None:
    assert two_keys.types(f"ssh {BY_SECOND} gpu17-manage status").ok
    line = reconcile(two_keys.gpu17, "--json").stdout.splitlines()[-1]
    days = json.loads(line)["report"]["key_days"]
    print_of = f"ssh-keygen -l -f {SECOND}.pub | cut -d' ' -f2"
    assert days[two_keys.types(print_of).stdout.strip()] == time.strftime("%Y-%m-%d", time.gmtime())


def test_what_tells_the_key_of_an_old_connection_is_not_cleaned_away(fleet: Fleet) -> None:
    """Debian 13 removes what lies in /tmp for ten days (tmpfiles.d(5)); here, what lies there."""
    left = fleet.gpu17.sh("""
        exec unshare --mount sh -euc '
            mount -t tmpfs none /tmp; mount -t tmpfs none /var/tmp
            touch /tmp/other /tmp/sshauth.AAAAAAAAAAAAAAA
            echo "q /tmp 1777 root root 0" >/var/tmp/all.conf
            systemd-tmpfiles --clean /var/tmp/all.conf /etc/tmpfiles.d/lxc-gpu.conf; ls /tmp'""")
    assert left.stdout == "sshauth.AAAAAAAAAAAAAAA\n"


class TestRequests:
    def test_each_one_asks_again(self, two_keys: Fleet) -> None:
        """In the moment between the files and the end of what was open."""
        opens(two_keys, "master-manage", "gpu17-manage", BY_SECOND)
        opens(two_keys, "master-register", "register@gpu17-manage", BY_SECOND)
        key = second(two_keys)
        two_keys.gpu17.sh(f"sed -i '\\|{key}|d' {KEYS}/lqchen; sed -i '\\|{key}|"
                          f"s/register lqchen/register ann/' {KEYS}/register")  # fmt: skip
        for name, words in (("manage", "stop"), ("manage", "connect"), ("register", "lqchen")):
            done = over(two_keys, f"master-{name}", words)
            assert (done.status, done.stdout) == (1, "")
            assert "no longer opens this account" in done.stderr
        assert running(two_keys.gpu17, "lqchen")

    def test_an_idle_connection_that_is_younger_than_the_keys_stays(self, two_keys: Fleet) -> None:
        """Of one that is older nobody knows by which key it was opened."""
        opens(two_keys, "master-young", "gpu17-manage")
        only = ("--kind", "connection")
        done = reconcile(two_keys.gpu17, *only)
        assert "connection: end a connection to the account lqchen, whose key was" in done.stdout
        assert not is_open(two_keys, "master-manage")
        assert is_open(two_keys, "master-young")
        two_keys.gpu17.sh(f"cp {KEYS}/lqchen {KEYS}/.new && mv {KEYS}/.new {KEYS}/lqchen")
        assert reconcile(two_keys.gpu17, *only).ok
        assert not is_open(two_keys, "master-young")


@pytest.fixture(scope="class")
def removed(two_keys: Fleet) -> Iterator[str]:
    """What a round said that learned: lqchen's second key was removed, and ann has left.

    There is no logind on the server. What was open before is `over_*`, on the laptop.
    """
    assert reconcile(two_keys.gpu17).ok, "the keys of the tests before"
    opens(two_keys, "master-old", "gpu17-manage", BY_SECOND)
    ssh = f"ssh -T {BY_SECOND} gpu17-manage"
    in_background(two_keys, "over-connect", f"sleep infinity | {ssh} connect")
    snapshot = f"{ssh} snapshot --to-stdout | (head -c 1; sleep infinity)"
    in_background(two_keys, "over-snapshot", snapshot)
    in_background(two_keys, "over-others", "sleep infinity | ssh -T gpu17-manage connect")
    inside = f"ssh {BY_SECOND} gpu17 'echo here; sleep infinity'; true"
    in_background(two_keys, "over-inside", inside)
    two_keys.types(f"rm -f ~/master; ssh {MASTER} -S ~/master gpu17-manage", user="ann")
    assert requests(two_keys) == 1
    two_keys.gpu17.sh("systemctl mask -q --now --runtime systemd-logind")
    two_keys.commits("A key was removed, ann has left", f"""
        sed -i '\\|{second(two_keys)}|d' users/lqchen.yaml
        mkdir -p former; git mv users/ann.yaml former/""")  # fmt: skip
    done = reconcile(two_keys.gpu17)
    assert done.ok, done.stdout + done.stderr
    yield done.stdout
    two_keys.types("for of in over-*.pid; do pkill -P $(cat $of); done")
    two_keys.gpu17.sh("systemctl unmask -q --runtime systemd-logind")
    two_keys.gpu17.sh("systemctl start systemd-logind")
    two_keys.commits("ann is back", "git mv former/ann.yaml users/")
    assert reconcile(two_keys.gpu17).ok


class TestOpen:
    def test_an_idle_connection_ends(self, two_keys: Fleet, removed: str) -> None:
        assert "connection: end 3 connections to the account lqchen, whose key was" in removed
        assert not is_open(two_keys, "master-old")
        assert over(two_keys, "master-old", "stop").status == 255
        assert running(two_keys.gpu17, "lqchen")

    def test_what_runs_over_one_ends_with_it(self, two_keys: Fleet, removed: str) -> None:
        eventually(lambda: not alive(two_keys, "over-connect"))
        eventually(lambda: not alive(two_keys, "over-snapshot") and not requests(two_keys))

    def test_what_another_key_opened_stays(self, two_keys: Fleet, removed: str) -> None:
        assert alive(two_keys, "over-others")

    def test_the_container_s_own_sshd_is_the_container_s(
        self, two_keys: Fleet, removed: str
    ) -> None:
        assert alive(two_keys, "over-inside")
        two_keys.gpu17.sh(END_INSIDE)
        eventually(lambda: not alive(two_keys, "over-inside"))
        assert two_keys.types("ssh gpu17 true").ok

    def test_who_is_disabled_has_nothing_open_without_logind(
        self, two_keys: Fleet, removed: str
    ) -> None:
        assert "account: disable the account ann" in removed
        assert not two_keys.types("ssh -O check -S ~/master x", user="ann").ok
        assert two_keys.gpu17.sh("pgrep -u ann sshd || true").stdout == ""


class TestGate:
    def test_a_server_that_was_taken_away(self, fleet: Fleet) -> None:
        """Its connection is refused in the moment before it ends, as is what runs over another."""
        laptop, upload = fleet.laptop, "pgrep -u lxc-gpu -f '^git upload-pack' || true"
        ssh = "ssh -i ~/gpu99 -o IdentitiesOnly=yes lxc-gpu@iam.mylab.com"
        fetch = f"git-upload-pack \\'{BARE}\\'"
        laptop.sh("rm -f ~/gpu99* ~/master-gate; ssh-keygen -q -t ed25519 -N '' -f ~/gpu99")
        fleet.commits("gpu99", """
            { echo 'address: 172.16.2.99'; grep host_key: servers/gpu17.yaml
            echo "state_key: $(cut -d' ' -f1,2 ~/gpu99.pub)"; } >servers/gpu99.yaml""")  # fmt: skip
        laptop.sh(f"""
            {ssh} {MASTER} -S ~/master-gate
            (sleep infinity | {ssh} {fetch}) >~/fetched 2>/dev/null & echo $! >~/fetching
            until test -s ~/fetched; do sleep 0.1; done""")
        assert fleet.iam.sh(upload).stdout
        fleet.iam.sh("sed -i '/server gpu99/d' /var/lib/lxc-gpu/gate_keys")
        done = laptop.sh(f"{ssh} -S ~/master-gate {fetch}", check=False)
        assert (done.status, done.stdout) == (1, "")
        assert "no longer opens this account" in done.stderr
        fleet.commits("gpu99 was taken away", "git rm -q servers/gpu99.yaml")
        assert not laptop.sh("ssh -O check -S ~/master-gate x", check=False).ok
        eventually(lambda: not fleet.iam.sh(upload).stdout)
        laptop.sh("pkill -P $(cat ~/fetching) || true")


def test_a_revocation_does_not_wait_for_work_on_a_container(converged: Host) -> None:
    """Somebody's container is being worked on; keys are put right before that ends."""
    converged.sh(f"""
        sed -i /ssh-ed25519/d {SYSTEM}/home/lqchen/.ssh/authorized_keys
        echo 'ssh-ed25519 AAAA stranger' >>{KEYS}/ann""")
    with ThreadPoolExecutor() as pool:
        with at_work_on(converged, "lqchen"):
            waiting = pool.submit(reconcile, converged)
            eventually(lambda: "stranger" not in converged.read(f"{KEYS}/ann"))
            assert not waiting.done()
        assert waiting.result().ok
    assert plan(converged) == []
