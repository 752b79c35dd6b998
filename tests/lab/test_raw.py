"""Systems that are stored raw, with the ids that their containers see: they run and stay closed."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator

import pytest
from laboratory.hosts import Host

from tests.lab.fleet import CONTAINERS, Fleet, plan, reconcile, running
from tests.lab.recovering import FOLDER, agreed, inside, manage
from tests.patience import eventually

SLOT = f"{FOLDER}/rootfs"
SHOWN = "/run/lxc-gpu/systems/lqchen"
KEPT = "/run/lxc-gpu/raw-systems.json"
STARTS = """
import sys
sys.path.insert(0, "/opt/lxc-gpu/packages")
from reconciler.requests import power
power.start("lqchen", lambda progress: None)
"""
"""What `start` does, without the helper's socket, so that strace can kill it at a call."""


def form(host: Host, slot: str = SLOT) -> str:
    """How the system in a slot is stored."""
    owner, mode = host.sh(f"stat -c '%u %a' {slot}").stdout.split()
    return "raw" if (owner, mode) == ("0", "700") else "shifted" if int(owner) > 99_999 else owner


def shown(host: Host) -> bool:
    """Whether something is mounted for `lxc-start`."""
    return host.sh(f"mountpoint -q {SHOWN}", check=False).ok


@pytest.fixture(scope="module")
def raw(fleet: Fleet) -> Iterator[Host]:
    """The server; lqchen's system is raw, and runs."""
    fleet.gpu17.sh(f"rm -f {KEPT}")
    if form(fleet.gpu17) != "raw":  # of a lab that was set up long ago
        assert agreed(fleet, "rebuild").ok
    assert manage(fleet, "start").ok
    yield fleet.gpu17
    fleet.gpu17.sh(f"rm -rf {KEPT} {SLOT}.before")


def test_it_runs_with_its_own_ids_on_the_disk(fleet: Fleet, raw: Host) -> None:
    assert form(raw) == "raw"
    inside(fleet, "sudo touch /srv/roots; touch mine; sudo chown 7:8 /srv/roots")
    owners = raw.sh(f"cd {SLOT}/system; stat -c %u:%g . home/lqchen/mine srv/roots").stdout
    assert owners.split() == ["0:0", "1000:1000", "7:8"]
    assert inside(fleet, "sudo id -u; stat -c %u / /srv/roots ~").split() == ["0", "0", "7", "1000"]
    assert raw.sh(f"stat -c %d:%i {SHOWN} {SLOT}/system | uniq | wc -l").stdout == "1\n"
    assert plan(raw) == []


def test_its_set_uid_programs_are_nobodys_way_to_root(fleet: Fleet, raw: Host) -> None:
    inside(fleet, "sudo install -m 6755 /usr/bin/id /srv/who; echo x | sudo tee /srv/of-root;"
                  "sudo chmod 600 /srv/of-root; sudo chmod 777 /; sudo chmod 755 /")  # fmt: skip
    for account in ("nobody", "ann"):
        closed = raw.sh(f"runuser -u {account} -- {SLOT}/system/srv/who -u", check=False)
        assert "Permission denied" in closed.stderr
        euid = raw.sh(f"runuser -u {account} -- {SHOWN}/srv/who -u").stdout.strip()
        assert int(euid) == int(raw.sh(f"stat -c %u {SHOWN}/srv/who").stdout) > 99_999
        assert not raw.sh(f"runuser -u {account} -- cat {SHOWN}/srv/of-root", check=False).ok
    up = raw.sh("pgrep -u lqchen lxc-start").stdout.split()[0]
    root = raw.sh(f"pgrep --parent {up} | head -1").stdout.strip()
    through = f"runuser -u ann -- ls /proc/{root}/root/srv"
    assert not raw.sh(through, check=False).ok


def test_its_root_can_make_it_no_other_form(fleet: Fleet, raw: Host) -> None:
    inside(fleet, "sudo mkdir -m 700 /system; sudo ln -s /etc /system/etc; sudo chown 1000 /")
    assert manage(fleet, "restart").ok
    assert form(raw) == "raw"
    assert reconcile(raw).ok
    assert plan(raw) == []
    assert inside(fleet, "sudo rm -r /system; sudo chown 0:0 /; id -u") == "1000\n"
    assert raw.sh("stat -c %U /etc/passwd").stdout == "root\n"


def test_what_it_starts_from_goes_with_it(fleet: Fleet, raw: Host) -> None:
    assert shown(raw)
    fleet.types("ssh gpu17 sudo systemctl --no-block poweroff")
    eventually(lambda: not running(raw, "lqchen"), 60)
    eventually(lambda: not shown(raw))
    raw.sh(f"mount -t tmpfs none {SHOWN}; mount -t tmpfs none {SHOWN}")
    assert manage(fleet, "start").ok, "what somebody left there is no system of theirs"
    assert inside(fleet, "id -u") == "1000\n"
    raw.sh("systemctl restart lxc-gpu@lqchen")
    eventually(lambda: fleet.types("ssh gpu17 true").ok, 60)
    assert manage(fleet, "stop").ok
    assert not shown(raw)


@pytest.mark.parametrize("call", ["mount_setattr", "move_mount", "mknodat", "unlinkat"])
def test_a_start_killed_on_its_way_is_healed(fleet: Fleet, raw: Host, call: str) -> None:
    assert manage(fleet, "stop").ok
    kill = f"strace -qq -o /dev/null --trace={call} --inject={call}:signal=KILL:when=1"
    killed = raw.sh(f"{kill} /usr/bin/python3 -IS -c {shlex.quote(STARTS)}", check=False)
    assert killed.status == 137, killed.stdout + killed.stderr
    assert manage(fleet, "start").ok
    assert raw.sh(f"grep -c ' {SHOWN} ' /proc/self/mountinfo").stdout == "1\n"
    assert raw.sh("grep -c ' /run/lxc-gpu/devices/lqchen ' /proc/self/mountinfo").stdout == "1\n"
    assert inside(fleet, "stat -c %F /dev/fuse /dev/net/tun") == "character special file\n" * 2


def test_undo_goes_from_one_form_to_the_other(fleet: Fleet, raw: Host) -> None:
    """A server whose kernel can't: there the next system is shifted, and doctor says so."""
    assert manage(fleet, "start").ok
    inside(fleet, "echo of the raw one >thesis; sudo install -m 4755 /usr/bin/id /srv/who")
    facts = {
        "device": int(raw.sh(f"stat -c %d {CONTAINERS}").stdout),
        "why_not": "of an old kernel",
    }
    raw.sh(f"cat >{KEPT}", stdin=json.dumps(facts))
    assert "stored with shifted ids" in raw.sh("lxc-gpu doctor", check=False).stdout
    assert agreed(fleet, "rebuild --keep-home").ok
    assert (form(raw), form(raw, f"{SLOT}.before")) == ("shifted", "raw")
    assert not shown(raw)
    seen = "cat thesis; stat -c %u:%a thesis /srv/who 2>&-; sudo id -u"
    assert inside(fleet, seen) == "of the raw one\n1000:644\n0\n"
    inside(fleet, "echo of the shifted one >thesis")
    for kept, expected in (("raw", "of the raw one\n1000:644\n0:4755\n0\n"),
                           ("shifted", "of the shifted one\n1000:644\n0\n")):  # fmt: skip
        assert agreed(fleet, "recover --undo").ok
        assert form(raw) == kept
        assert inside(fleet, seen) == expected
        assert plan(raw) == []
    raw.sh(f"rm {KEPT}")
    assert agreed(fleet, "rebuild --keep-home").ok
    assert (form(raw), form(raw, f"{SLOT}.before")) == ("raw", "shifted")
    assert inside(fleet, seen) == "of the shifted one\n1000:644\n0\n"
    assert "new systems are stored raw" in raw.sh("lxc-gpu doctor", check=False).stdout
