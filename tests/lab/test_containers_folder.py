"""The folder of the containers without its disk, moved, and without somebody's system in it.

Nobody gets a new, empty system because a disk is away; all else goes on, and all is well again
when the disk is back.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from laboratory.hosts import Host
from laboratory.layout import SOURCE_INSIDE

from state.command import Finished
from state.wire.findings import Level, from_json
from tests.lab.fleet import (
    CONTAINERS,
    KEYS,
    MARKER,
    STARTS_ROUNDS,
    Fleet,
    end_at_once,
    plan,
    reconcile,
    running,
    system_of,
    watched,
)

SET_UP = f"{SOURCE_INSIDE}/setup/gpu-server"
EMPTY = "/srv/under-the-mount"
AWAY = f"✗ {CONTAINERS} is not marked as the folder of gpu17's containers: most likely its disk"
PEOPLE_HERE = ("ann", "lqchen")
ASKS = "ssh register@gpu17-manage ann --confirm "


@pytest.fixture
def gpu17(fleet: Fleet) -> Iterator[Host]:
    """The server, whose containers are stopped; afterwards it is as it was."""
    host = fleet.gpu17
    for name in PEOPLE_HERE:
        if running(host, name):
            end_at_once(host, name)
    yield host
    assert reconcile(host).ok
    assert plan(host) == []


@pytest.fixture
def unmounted(gpu17: Host) -> Iterator[Host]:
    """What is seen of a disk that isn't mounted: the empty folder below."""
    gpu17.sh(f"mkdir -p {EMPTY}; mount --bind {EMPTY} {CONTAINERS}")
    yield gpu17
    gpu17.sh(f"if mountpoint -q {CONTAINERS}; then umount {CONTAINERS}; fi; rmdir {EMPTY}")


def set_up(host: Host, *words: str) -> Finished:
    """The set-up; the rounds that it has run by themselves change nothing, and end with it."""
    host.sh("lxc-gpu suspend --reason tests")
    try:
        return host.run([SET_UP, *words], timeout=300, check=False)
    finally:
        host.sh(f"systemctl stop {STARTS_ROUNDS} lxc-gpu-reconcile.service")
        host.sh("rm /var/lib/lxc-gpu/suspended.json")


def wrong(host: Host, *words: str) -> str:
    """What the doctor finds wrong."""
    found = from_json(host.run(["lxc-gpu", "doctor", "--json", *words], check=False).stdout)
    return "\n".join(f"{f.text} {f.hint}" for f in found if f.level is Level.WRONG)


class TestDiskThatIsAway:
    def test_nothing_is_made_and_everybody_is_told(self, fleet: Fleet, unmounted: Host) -> None:
        unmounted.sh(f"rm {KEYS}/ann")
        done = reconcile(unmounted)
        assert done.status == 1
        assert f"FAILED containers_folder {CONTAINERS}: {AWAY[2:]}" in done.stdout
        assert done.stdout.count("FAILED") == 1, "said once"
        assert f"findmnt --target {CONTAINERS}" in done.stdout
        assert "ann logs in with 1 key" in done.stdout, "all else goes on"
        for line in ("ssh gpu17-manage", "ssh register@gpu17-manage lqchen",
                     "ssh gpu17-manage rebuild"):  # fmt: skip
            done = fleet.types(line)
            assert (done.status, done.stdout) == (1, ""), line
            assert AWAY in done.stderr, line
        assert AWAY[2:] in wrong(unmounted)
        assert AWAY[2:] in wrong(unmounted, "--user", "lqchen")
        before = watched(unmounted)
        done = set_up(unmounted)
        assert done.status == 1
        assert "setup/gpu-server --new-systems" in done.stderr
        assert watched(unmounted) == before
        assert unmounted.sh(f"ls -A {CONTAINERS}").stdout == ""
        unmounted.sh(f"umount {CONTAINERS}")
        assert reconcile(unmounted).ok
        assert fleet.types("ssh gpu17-manage").ok
        assert set_up(unmounted).ok

    def test_somebody_who_has_left_is_stopped_all_the_same(self, fleet: Fleet, gpu17: Host) -> None:
        """A disk that goes while containers run."""
        assert fleet.types("ssh gpu17-manage", user="ann").ok
        gpu17.sh(f"mkdir -p {EMPTY}; mount --bind {EMPTY} {CONTAINERS}")
        try:
            fleet.commits("ann leaves gpu17", "git rm -q registrations/gpu17/ann.yaml")
            done = reconcile(gpu17)
            assert done.status == 1
            assert "container: stop the container of ann" in done.stdout
            assert not running(gpu17, "ann")
            done = gpu17.run(["lxc-gpu", "purge", "ann", "--yes"], check=False)
            assert done.status == 1
            assert AWAY[2:] in done.stderr
        finally:
            gpu17.sh(f"umount {CONTAINERS}; rmdir {EMPTY}")
            fleet.commits("ann is back", "git revert --no-edit HEAD")
        assert reconcile(gpu17).ok
        assert gpu17.run(["test", "-d", f"{system_of(gpu17, 'ann')}/etc"]).ok


def test_containers_are_moved_as_the_message_says(fleet: Fleet, gpu17: Host) -> None:
    other = "/var/lib/lxc-gpu/moved"  # of one disk: renamed, which is faster than copied
    fleet.commits("Another folder", f"echo 'containers: {other}' >>servers/gpu17.yaml")
    try:
        done = reconcile(gpu17)
        assert done.status == 1
        assert f"`containers:` was changed, and gpu17's containers are in {CONTAINERS}" in (
            done.stdout
        )
        assert f"`cp --archive --no-target-directory {CONTAINERS} {other}`" in done.stdout
        assert not gpu17.run(["test", "-e", other], check=False).ok
        gpu17.sh(f"mv {CONTAINERS} {other}")
        done = reconcile(gpu17)
        assert done.ok, done.stdout
        assert f"take the containers to be in {other}, no longer in {CONTAINERS}" in done.stdout
        assert fleet.types("ssh gpu17-manage").ok
        assert fleet.types("ssh gpu17 true").ok
        end_at_once(gpu17, "lqchen")
    finally:
        fleet.commits("The folder of before", "sed -i /^containers:/d servers/gpu17.yaml")
        gpu17.sh(f"if test -e {other}; then mv {other} {CONTAINERS}; fi")


class TestSystemThatIsGone:
    @pytest.fixture
    def aside(self, gpu17: Host) -> Iterator[str]:
        """Where ann's system is meanwhile."""
        place = f"{CONTAINERS}/.ann-of-tests"
        gpu17.sh(f"mv {CONTAINERS}/ann {place}")
        yield place
        gpu17.sh(f"""if test -e {place}; then
            rm -rf {CONTAINERS}/ann; mv {place} {CONTAINERS}/ann; touch /var/lib/lxc-gpu/made/ann
            fi""")

    def test_it_is_not_made_anew_unasked(self, fleet: Fleet, gpu17: Host, aside: str) -> None:
        done = reconcile(gpu17)
        assert done.status == 1
        assert "FAILED container ann: The container of ann was made on gpu17" in done.stdout
        assert done.stdout.count("FAILED") == 1, "nobody else is concerned"
        done = fleet.types("ssh gpu17-manage", user="ann")
        assert (done.status, done.stdout) == (1, "")
        assert f"is not in {CONTAINERS} any more" in done.stderr
        assert f"put it back as {CONTAINERS}/ann" in done.stderr
        assert "The container of ann was made on gpu17" in wrong(gpu17)
        gpu17.sh(f"mv {aside} {CONTAINERS}/ann")
        assert reconcile(gpu17).ok
        assert fleet.types("ssh gpu17-manage", user="ann").ok

    def test_registering_makes_it_anew_after_a_yes(
        self, fleet: Fleet, gpu17: Host, aside: str
    ) -> None:
        done = fleet.types("ssh register@gpu17-manage ann", user="ann")
        assert (done.status, done.stdout) == (3, "")
        assert "Ask your sysadmin first" in done.stderr
        assert not gpu17.run(["test", "-e", f"{CONTAINERS}/ann"], check=False).ok
        assert fleet.types(f"{ASKS}00000000", user="ann").status == 3, "that is another question"
        typed = next(line for line in done.stderr.splitlines() if ASKS in line)
        done = fleet.types(typed, user="ann", wait=180)
        assert done.ok, done.stderr
        assert done.stdout.startswith("Your container on gpu17 is ready.")
        assert gpu17.run(["test", "-d", f"{system_of(gpu17, 'ann')}/etc"]).ok
        assert plan(gpu17) == []


class TestSetUp:
    def test_it_asks_before_people_begin_anew(self, fleet: Fleet) -> None:
        """A server that was installed anew: the state lists residents, and nothing is here."""
        host = fleet.gpu17
        aside = "/var/lib/lxc-gpu/aside"
        for name in PEOPLE_HERE:
            if running(host, name):
                end_at_once(host, name)
        host.sh(f"""
            mkdir {aside}; cd /var/lib/lxc-gpu
            mv containers containers.json made {aside}""")
        try:
            done = reconcile(host)
            assert done.status == 1
            assert "or this server was installed anew" in done.stdout
            assert set_up(host).status == 1
            assert host.sh(f"ls -A {CONTAINERS} 2>&- || true").stdout == ""
            assert set_up(host, "--new-systems").ok
            assert json.loads(host.read(f"{CONTAINERS}/{MARKER}"))["server"] == "gpu17"
            assert plan(host) == [f"container: make the container of {n}" for n in PEOPLE_HERE]
        finally:
            host.sh(f"""cd /var/lib/lxc-gpu
                rm -rf containers containers.json made; mv {aside}/* .; rmdir {aside}""")
        assert plan(host) == []

    def test_it_adopts_what_is_there(self, gpu17: Host) -> None:
        """After an upgrade from a version without markers, and where only the record is lost."""
        kept = gpu17.read(f"{CONTAINERS}/{MARKER}")
        gpu17.sh("rm -r /var/lib/lxc-gpu/containers.json /var/lib/lxc-gpu/made")
        assert set_up(gpu17).ok
        assert gpu17.read(f"{CONTAINERS}/{MARKER}") == kept
        assert plan(gpu17) == []
        gpu17.sh(f"rm {CONTAINERS}/{MARKER}")
        gpu17.sh("rm -r /var/lib/lxc-gpu/containers.json /var/lib/lxc-gpu/made")
        said = set_up(gpu17).stdout
        assert f"mark {CONTAINERS} as the folder of gpu17's containers" in said
        assert gpu17.sh("ls /var/lib/lxc-gpu/made").stdout == "ann\nlqchen\n"
        assert plan(gpu17) == []
