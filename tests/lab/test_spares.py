"""A system is ready for whoever comes next: made by itself, taken once, never by two."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from laboratory.hosts import Host

from tests.lab.archives import TEMPLATES, small_template
from tests.lab.fleet import CONTAINERS, PEOPLE, SPARES_WANTED, SYSTEM, Fleet, reconcile
from tests.patience import eventually

STORE = f"{CONTAINERS}/.spares"
NOTES = "/var/lib/lxc-gpu/spares.json"
UNIT = "lxc-gpu-spares.service"
UNPACKING = "unpacking the template"
KEEP = """
import sys
sys.path.insert(0, "/opt/lxc-gpu/packages")
from reconciler.host.published import current_view
from reconciler.rounds.make_spares import keep
keep(current_view())
"""
"""What the unit does, so that strace can kill it at a call."""


@pytest.fixture(scope="module")
def gpu18(fleet: Fleet) -> Iterator[Host]:
    """A server where nobody has a container; its template is small."""
    host = fleet.gpu18
    with small_template(host):
        host.sh(f"touch {SPARES_WANTED}")
        yield host
        host.sh(f"rm {SPARES_WANTED}; systemctl stop {UNIT}; rm -rf {STORE} {NOTES}")
    names = "registrations/gpu18/lqchen.yaml registrations/gpu18/ann.yaml"
    fleet.commits("nobody on gpu18", f"git rm -q --ignore-unmatch {names}")
    assert reconcile(host).ok
    for name in PEOPLE:
        host.run(["lxc-gpu", "purge", name, "--yes"], timeout=120)


@pytest.fixture
def ready(gpu18: Host) -> str:
    """The one that is ready when the test begins, by its name in the store."""
    reconcile(gpu18)
    eventually(partial(_ready, gpu18))
    return _ready(gpu18)


@pytest.fixture
def no_more(gpu18: Host, ready: str) -> Iterator[None]:
    """No other one is made meanwhile."""
    gpu18.sh(f"rm {SPARES_WANTED}")
    yield
    gpu18.sh(f"touch {SPARES_WANTED}")


def _ready(host: Host) -> str:
    """Its name, once all is done."""
    if host.run(["systemctl", "is-active", "--quiet", UNIT], check=False).status == 0:
        return ""
    stamp = host.sh(f"stat -c %i:%s {TEMPLATES}/debian-12.tar.zst").stdout.strip()
    stored = host.sh(f"ls -A {STORE} 2>&- || true").stdout.split()
    noted = json.loads(host.sh(f"cat {NOTES} 2>&- || echo '{{}}'").stdout).get("spares", [])
    fits = [each["ident"] for each in noted
            if f"{each['stamp']['inode']}:{each['stamp']['size']}" == stamp]  # fmt: skip
    return fits[0] if stored == fits and len(fits) == 1 else ""


def _forget(fleet: Fleet, name: str) -> None:
    """Nobody has a container on gpu18 any more."""
    fleet.commits(f"{name} leaves gpu18", f"git rm -q registrations/gpu18/{name}.yaml")
    assert reconcile(fleet.gpu18).ok
    fleet.gpu18.run(["lxc-gpu", "purge", name, "--yes"], timeout=120)


def test_a_round_has_one_made_that_nobody_can_enter(gpu18: Host, ready: str) -> None:
    """Stored with ids of its own, in a folder of root's; the range is an account's of its own."""
    facts = f"stat -c '%a %u' {STORE} {STORE}/{ready} {STORE}/{ready}/system/etc/passwd"
    assert gpu18.sh(facts).stdout.split("\n")[:2] == ["711 0", "700 0"]
    assert gpu18.sh(facts).stdout.split("\n")[2].endswith(" 0")
    owner = gpu18.sh("grep ^lxc-gpu-spares: /etc/subuid").stdout
    assert owner == gpu18.sh("grep ^lxc-gpu-spares: /etc/subgid").stdout
    assert int(owner.split(":")[1]) + 2 * int(owner.split(":")[2]) > 2**32 - 1  # the last one
    for words in (["lxc-gpu", "doctor"], ["lxc-gpu", "status"]):
        assert "from debian-12: 1 of 1 ready" in gpu18.run(words, check=False).stdout
    assert reconcile(gpu18).ok
    assert _ready(gpu18) == ready, "made anew for nothing"


def test_it_becomes_the_next_ones_own(fleet: Fleet, gpu18: Host, ready: str) -> None:
    """It is taken, not copied, and has nothing of anybody else's; then another one is made."""
    inside = f"{STORE}/{ready}/system"
    gpu18.sh(f"echo old >{inside}/etc/ssh/ssh_host_rsa_key; mkdir -p {inside}/var/lib/systemd; "
             f"echo seed >{inside}/var/lib/systemd/random-seed")  # fmt: skip
    inode = gpu18.sh(f"stat -c %i {inside}").stdout
    done = fleet.register("lqchen", "gpu18")
    assert done.ok, done.stderr
    assert UNPACKING not in done.stderr
    assert gpu18.sh(f"stat -c %i {SYSTEM}").stdout == inode
    assert len(gpu18.sh(f"cat {SYSTEM}/etc/machine-id").stdout) == 33
    left = f"ls {SYSTEM}/etc/ssh/ssh_host_* {SYSTEM}/var/lib/systemd/random-seed 2>&- || true"
    assert gpu18.sh(left).stdout == ""
    assert gpu18.sh(f"stat -c %u {SYSTEM}/home/lqchen").stdout == "1000\n"
    eventually(lambda: _ready(gpu18) not in ("", ready))
    _forget(fleet, "lqchen")


@pytest.mark.usefixtures("no_more")
def test_of_two_at_once_one_gets_it(fleet: Fleet, gpu18: Host, ready: str) -> None:
    """The other one's is unpacked as always."""
    inode = gpu18.sh(f"stat -c %i {STORE}/{ready}/system").stdout
    with ThreadPoolExecutor() as pool:
        both = list(pool.map(lambda name: fleet.register(name, "gpu18"), PEOPLE))
    assert all(done.ok for done in both), [done.stderr for done in both]
    systems = [f"{CONTAINERS}/{name}/rootfs/system" for name in PEOPLE]
    taken = [gpu18.sh(f"stat -c %i {system}").stdout == inode for system in systems]
    assert sorted(taken) == [False, True]
    assert gpu18.sh(f"ls {STORE}").stdout == ""
    for name in PEOPLE:
        _forget(fleet, name)


def test_an_archive_that_was_only_touched_is_the_same(gpu18: Host, ready: str) -> None:
    gpu18.sh(f"touch {TEMPLATES}/small")
    reconcile(gpu18)
    eventually(lambda: "1 of 1 ready" in gpu18.run(["lxc-gpu", "status"]).stdout)
    eventually(lambda: _ready(gpu18) == ready)


def test_of_another_archive_another_one_is_made(gpu18: Host, ready: str) -> None:
    """One that can't be unpacked is said, and not tried again and again."""
    archive = f"{TEMPLATES}/small"
    gpu18.sh(f"cp {archive} {archive}.kept; echo garbage >{archive}")
    try:
        reconcile(gpu18)
        says = lambda: "none is made" in gpu18.run(["lxc-gpu", "doctor"], check=False).stdout  # noqa: E731
        eventually(says)
        assert gpu18.sh(f"ls {STORE}").stdout == ""
        before = gpu18.sh(f"stat -c %i {NOTES}").stdout
        reconcile(gpu18)
        assert gpu18.sh(f"stat -c %i {NOTES}").stdout == before
    finally:
        gpu18.sh(f"cat {archive}.kept >{archive}; rm {archive}.kept")
    reconcile(gpu18)
    eventually(lambda: _ready(gpu18) not in ("", ready))


@pytest.mark.usefixtures("no_more")
def test_what_killed_programs_left_is_removed(gpu18: Host, ready: str) -> None:
    """Killed at each rename and write of a note; and one of another server's disk."""
    gpu18.sh(f"rm -rf {STORE}/{ready}; cat >/root/keep.py <<'END'\n{KEEP}\nEND")
    for call, count in (("mkdir", 2), ("rename", 1), ("rename", 2), ("rename", 3)):
        inject = f"-e trace={call} -e inject={call}:signal=SIGKILL:when={count}"
        gpu18.sh(
            f"strace -o /dev/null {inject} python3 -IS /root/keep.py", check=False, timeout=120
        )
    gpu18.sh(f"mkdir -m 700 -p {STORE}/0123456789abcdef/system")
    gpu18.sh("python3 -IS /root/keep.py", timeout=120)
    assert _ready(gpu18)
    assert len(gpu18.sh(f"ls -A {STORE}").stdout.split()) == 1


def test_none_is_kept_where_none_is_wanted(fleet: Fleet, gpu18: Host, ready: str) -> None:
    fleet.commits("gpu18: no spares", "echo 'spares: 0' >>servers/gpu18.yaml")
    assert reconcile(gpu18).ok
    eventually(lambda: gpu18.sh(f"ls -A {STORE}").stdout == "")
    fleet.commits("gpu18: spares", "sed -i '/^spares/d' servers/gpu18.yaml")
    assert reconcile(gpu18).ok
