"""The server reboots, in order or by a loss of power: what ran is back, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from laboratory.hosts import Host

from tests.lab.fleet import STARTS_ROUNDS, Fleet, plan, reconcile, running
from tests.patience import eventually

RUNNING = "/var/lib/lxc-gpu/running"


KILLED = """
import os, signal, sys
sys.path.insert(0, "/opt/lxc-gpu/packages")
from reconciler.requests import exchange
from shells.usage import Verb
from shells.verbs import VerbRequest, serve
die = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
dies_at = lambda told: told.text == "starting the container" and die()
if sys.argv[1] == "restart":
    serve(Verb.RESTART, VerbRequest("lqchen", {}), dies_at)
exchange.replace("lqchen", "rebuild", None, lambda *_: None, lambda told: None, at_rest=die)
"""
"""The root helper's work, which kills itself when the container is down."""


def since(fleet: Fleet) -> str:
    """When the present system began, by `status`; empty for a moment between two."""
    return str(json.loads(fleet.types("ssh gpu17-manage status --json").stdout)["since"])


def in_order(gpu17: Host) -> None:
    """As `poweroff` does it: every unit is stopped in its order."""
    gpu17.run(["systemctl", "poweroff"], check=False)
    eventually(lambda: not gpu17.running, 60)


def at_once(gpu17: Host) -> None:
    """As a loss of power does it."""
    gpu17.stop()


def boots(gpu17: Host) -> None:
    gpu17.start()
    gpu17.wait_until_booted()
    gpu17.sh(f"systemctl stop {STARTS_ROUNDS}")


def came_back(gpu17: Host) -> None:
    """The unit that starts them has ended."""
    words = ["systemctl", "show", "-p", "ActiveState", "--value", "lxc-gpu-come-back"]
    eventually(lambda: gpu17.run(words).stdout.strip() in ("active", "failed"), 60)


@pytest.fixture
def gpu17(fleet: Fleet) -> Iterator[Host]:
    """lqchen's container runs, ann's was stopped; the web machine can't be reached."""
    assert fleet.types("ssh gpu17-manage").ok
    assert fleet.types("ssh gpu17-manage").ok
    assert fleet.types("ssh gpu17-manage stop", user="ann").ok
    fleet.iam.sh("systemctl stop ssh.service ssh.socket 2>&- || true")
    yield fleet.gpu17
    fleet.iam.sh("systemctl start ssh")
    assert fleet.types("ssh gpu17-manage", user="ann").ok
    assert fleet.types("ssh gpu17-manage").ok


@pytest.mark.parametrize("goes_down", [in_order, at_once])
def test_what_ran_is_back_and_reached(fleet: Fleet, gpu17: Host, goes_down: object) -> None:
    assert gpu17.sh(f"ls {RUNNING}").stdout == "lqchen\n"
    fleet.types("ssh gpu17 'echo kept >file; sync'")
    goes_down(gpu17)  # type: ignore[operator]
    boots(gpu17)
    came_back(gpu17)
    assert running(gpu17, "lqchen")
    assert fleet.types("ssh gpu17 cat file").stdout == "kept\n", "through the mapped port"
    assert not running(gpu17, "ann")
    assert gpu17.sh(f"ls {RUNNING}").stdout == "lqchen\n"
    assert "event=came-back user=lqchen" in gpu17.sh("journalctl -b -t lxc-gpu -o cat").stdout


def test_one_that_fails_stops_no_other(fleet: Fleet, gpu17: Host) -> None:
    key = "/var/lib/lxc-gpu/host_keys/ann"
    gpu17.sh(f"touch {RUNNING}/ann {RUNNING}/mallory; mv {key} /root/kept")
    try:
        at_once(gpu17)
        boots(gpu17)
        came_back(gpu17)
        assert running(gpu17, "lqchen")
        journal = gpu17.sh("journalctl -b -t lxc-gpu -o cat").stdout
        assert "event=come-back-failed user=ann code=host-key-missing" in journal
        assert "event=stays-down user=mallory" in journal
        assert not gpu17.run(["systemctl", "is-active", "lxc-gpu-come-back"], check=False).ok
    finally:
        gpu17.sh(f"mv /root/kept {key}; rm -f {RUNNING}/ann; "
                 "systemctl reset-failed lxc-gpu-come-back")  # fmt: skip


def test_what_was_shut_down_from_inside_stays_down(fleet: Fleet, gpu17: Host) -> None:
    before = since(fleet)
    fleet.types("ssh gpu17 sudo systemctl reboot")
    eventually(lambda: fleet.types("ssh gpu17 true").ok and since(fleet) not in ("", before), 30)
    assert gpu17.sh(f"ls {RUNNING}").stdout == "lqchen\n", "a reboot inside is no end"
    fleet.types("ssh gpu17 sudo systemctl poweroff")
    eventually(lambda: not running(gpu17, "lqchen"), 30)
    eventually(lambda: gpu17.sh(f"ls {RUNNING}").stdout == "")


def test_who_is_killed_in_the_middle_has_it_come_back(fleet: Fleet, gpu17: Host) -> None:
    for verb in ("restart", "rebuild"):
        assert fleet.types("ssh gpu17-manage start").ok
        done = gpu17.run(["/usr/bin/python3", "-IS", "-c", KILLED, verb], check=False)
        assert done.status == 137, done.stderr
        assert not running(gpu17, "lqchen")
        assert gpu17.sh(f"ls {RUNNING}").stdout == "lqchen\n", verb
    at_once(gpu17)
    boots(gpu17)
    came_back(gpu17)
    assert running(gpu17, "lqchen")
    gpu17.sh("systemctl kill --signal=KILL lxc-gpu@lqchen")
    eventually(lambda: not running(gpu17, "lqchen"), 30)
    assert fleet.types("ssh gpu17-manage stop").ok
    assert gpu17.sh(f"ls {RUNNING}").stdout == "", "one that crashed can be stopped for good, too"


def test_policy_off_and_nothing_comes_back(fleet: Fleet, gpu17: Host) -> None:
    fleet.iam.sh("systemctl start ssh")
    fleet.commits("Stay down", "echo 'come_back: false' >>servers/gpu17.yaml")
    try:
        assert reconcile(gpu17).ok
        at_once(gpu17)
        boots(gpu17)
        came_back(gpu17)
        assert not running(gpu17, "lqchen")
        assert gpu17.sh(f"ls {RUNNING}").stdout == ""
    finally:
        fleet.commits("Come back", "sed -i '/^come_back/d' servers/gpu17.yaml")
        assert reconcile(gpu17).ok
    assert plan(gpu17) == []
