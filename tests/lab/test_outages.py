"""What goes on when something is down, full, killed or broken; and what is said about the rest."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from laboratory.hosts import Host

from state.command import Finished
from tests.lab.archives import TEMPLATES
from tests.lab.fleet import (
    BARE,
    CONTAINERS,
    MARKER,
    STARTS_ROUNDS,
    Fleet,
    end_at_once,
    plan,
    reconcile,
)
from tests.patience import eventually

KEPT = "/var/lib/lxc-gpu"
HERS = f"{CONTAINERS}/ann"


@pytest.fixture
def gpu18(fleet: Fleet) -> Iterator[Host]:
    """A server where ann has no container yet, nor anybody else."""
    yield fleet.gpu18
    fleet.commits("Nobody on gpu18", "git rm -q --ignore-unmatch registrations/gpu18/*.yaml")
    assert reconcile(fleet.gpu18).ok
    fleet.gpu18.sh(f"""
        userdel ann 2>&- || true
        rm -rf {HERS} /home/ann {KEPT}/host_keys/ann {KEPT}/made/ann
        sed -i /^ann:/d /etc/subuid /etc/subgid""")


def register(fleet: Fleet) -> Finished:
    """Ann registers on gpu18."""
    return fleet.types("ssh register@gpu18-manage ann", user="ann", wait=180)


def revision(host: Host) -> str:
    """The revision that a server is on."""
    found: str = json.loads(host.read(f"{KEPT}/view.json"))["revision"]
    return found


class TestIamIsDown:
    @pytest.fixture
    def without_iam(self, fleet: Fleet) -> Iterator[None]:
        """The web machine answers nobody."""
        fleet.iam.sh("systemctl stop ssh.socket ssh 2>&1")
        yield
        fleet.iam.sh("systemctl start ssh")

    def test_who_has_a_container_notices_nothing(
        self, fleet: Fleet, gpu18: Host, without_iam: None
    ) -> None:
        end_at_once(fleet.gpu17, "lqchen")
        assert fleet.types("ssh gpu17-manage start").ok
        assert "gpu17: running" in fleet.types("ssh gpu17-manage status").stdout
        assert fleet.types("ssh gpu17 true").ok
        done = register(fleet)
        assert (done.status, done.stdout) == (1, "")
        assert "✗ The web machine can't be reached, so nobody can register just now." in done.stderr
        assert "Containers that exist start and work as always." in done.stderr

    def test_rounds_stay_on_the_last_revision_and_heal(
        self, fleet: Fleet, gpu18: Host, without_iam: None
    ) -> None:
        host, before = fleet.gpu17, revision(fleet.gpu17)
        host.sh("usermod --shell /bin/sh lqchen")
        done = reconcile(host)
        assert done.status == 1
        assert "account: change the account lqchen: shell" in done.stdout
        assert "REFUSED the newest revision: " in done.stdout
        assert "The state repository can't be reached." in done.stdout
        assert f"NOT converged at revision {before[:10]}" in done.stdout
        assert revision(host) == before
        assert "REFUSED the newest revision: " in host.run(["lxc-gpu", "status"]).stdout
        done = host.run(["lxc-gpu", "plan"], check=False)
        assert (done.status, done.stdout[:15]) == (1, "Nothing to do: ")
        assert "The newest revision is not taken: " in done.stderr


class TestTemplate:
    def test_a_missing_template_is_named(self, fleet: Fleet, gpu18: Host) -> None:
        fleet.commits("gpu18: another template", "echo 'template: nosuch' >>servers/gpu18.yaml")
        try:
            done = register(fleet)
            assert (done.status, done.stdout) == (1, "")
            assert "✗ The template nosuch is not on this server" in done.stderr
            assert "Here are" not in done.stderr
            assert "is that name in servers/gpu18.yaml right?" in done.stderr
            made = "setup/template --release RELEASE /var/lib/lxc-gpu/templates/nosuch.tar.zst"
            assert made in " ".join(done.stderr.split())
            assert gpu18.sh(f"ls -A {HERS} 2>&- || true").stdout == ""
        finally:
            fleet.commits("gpu18: that template again", "sed -i /^template:/d servers/gpu18.yaml")

    def test_a_template_that_is_missing_is_told_before_anybody_waits_for_it(
        self, converged: Host
    ) -> None:
        converged.sh(f"mount -t tmpfs none {TEMPLATES}")
        try:
            done = reconcile(converged)
            assert done.status == 1
            assert "The template debian-12 is not on this server" in done.stdout
            assert "setup/template --release RELEASE /var/lib/" in done.stdout
            told = converged.run(["lxc-gpu", "plan"], check=False)
            assert (told.status, told.stdout.splitlines()) == (1, done.stdout.splitlines()[:1])
            assert "1 failure: `lxc-gpu reconcile` fails in the same way." in told.stderr
            said = converged.run(["lxc-gpu", "doctor"], check=False).stdout
            assert said.count("The template debian-12 is not on this server") == 1, said
            assert reconcile(converged, "--user", "lqchen").ok, "whoever has a container needs none"
            assert converged.run(["lxc-gpu", "plan", "--user", "lqchen"]).ok
        finally:
            converged.sh(f"umount {TEMPLATES}")
        assert reconcile(converged).ok

    def test_a_full_disk_leaves_nothing_half_made(self, fleet: Fleet, gpu18: Host) -> None:
        gpu18.sh(f"""
            cp {CONTAINERS}/{MARKER} /tmp
            mount -t tmpfs -o size=60M,mode=755 none {CONTAINERS}; cp /tmp/{MARKER} {CONTAINERS}""")
        try:
            done = register(fleet)
            assert (done.status, done.stdout) == (1, "")
            assert f"the disk of {CONTAINERS} is full" in done.stderr
            assert "Nothing was kept of it." in done.stderr
            assert gpu18.sh(f"ls -A {HERS} 2>&- || true").stdout == ""
            assert "disk" in reconcile(gpu18).stdout
            done = fleet.types("ssh gpu18-manage start", user="ann")
            assert (done.status, done.stdout) == (1, "")
            assert "✗ You have no container on gpu18 yet." in done.stderr
        finally:
            gpu18.sh(f"umount --lazy {CONTAINERS}")
        done = register(fleet)
        assert done.ok, done.stderr
        assert done.stdout.startswith("Your container on gpu18 is ready.")


class TestKilled:
    def test_a_round_that_was_killed_while_unpacking_is_healed(
        self, fleet: Fleet, gpu18: Host
    ) -> None:
        killed = "kill -9 $(pgrep -ox lxc-gpu-round)"
        unpacking = ["pgrep", "-f", "^tar --extract"]
        helper = "systemctl kill --signal=KILL 'lxc-gpu-root@*'"
        ends = {
            killed: "The round ended without a report.",
            helper: "The work on this server ended without an answer.",
        }
        for kill, said in ends.items():
            line = "ssh register@gpu18-manage ann >out 2>&1 & echo $!"
            done = fleet.laptop.sh(line, user="ann")
            eventually(lambda: gpu18.run(unpacking, check=False).ok)
            gpu18.sh(kill)
            asker = done.stdout.strip()
            fleet.laptop.sh(f"while kill -0 {asker} 2>&-; do sleep 0.1; done")
            assert said in fleet.laptop.read("/home/ann/out")
            eventually(lambda: not gpu18.run(unpacking, check=False).ok)
            assert gpu18.run(["test", "-e", f"{HERS}/rootfs"], check=False).status == 1
        done = reconcile(gpu18)
        assert done.ok, done.stdout
        assert gpu18.sh(f"ls -A {HERS}").stdout == "rootfs\n"
        assert plan(gpu18) == []
        fleet.fetch_ssh_files("ann")
        assert fleet.types("ssh gpu18-manage start && ssh gpu18 sudo id -u", user="ann").ok
        end_at_once(gpu18, "ann")


@pytest.fixture(scope="class")
def on_the_newest(fleet: Fleet) -> Host:
    """A server that is on the newest revision; each test leaves it there."""
    assert reconcile(fleet.gpu17).ok
    return fleet.gpu17


class TestBadRevisions:
    """Past the hook, as somebody with root on iam could: the servers are the last line."""

    @contextmanager
    def pushed(self, fleet: Fleet, script: str) -> Iterator[None]:
        git = f"runuser -u lxc-gpu -- git -C {BARE}"
        tip = fleet.iam.sh(f"{git} rev-parse main").stdout.strip()
        try:
            fleet.iam.sh(f"""
                runuser -u lxc-gpu -- bash -euc '
                    cd {BARE}
                    export GIT_INDEX_FILE=/tmp/index-of-a-test
                    export GIT_AUTHOR_NAME=Eve GIT_AUTHOR_EMAIL=eve@x
                    export GIT_COMMITTER_NAME=Eve GIT_COMMITTER_EMAIL=eve@x
                    git read-tree main
                    {script}
                    git update-ref refs/heads/main $new
                    rm -f $GIT_INDEX_FILE'""")
            yield
        finally:
            fleet.iam.sh(f"{git} update-ref refs/heads/main {tip}; rm -f /tmp/index-of-a-test")

    COMMIT = "new=$(git commit-tree -p main -m bad $(git write-tree))"
    BAD = (
        ("broken YAML", f"""
            blob=$(echo "uid: [" | git hash-object -w --stdin)
            git update-index --add --cacheinfo 100644,$blob,users/eve.yaml; {COMMIT}"""),
        ("history was rewound", "new=$(git rev-parse main~1)"),
        ("no file of this server", f"git rm -q --cached servers/gpu17.yaml; {COMMIT}"),
        ("everything is gone", f"git read-tree --empty; {COMMIT}"),
    )  # fmt: skip

    @pytest.mark.parametrize(("name", "script"), BAD, ids=lambda text: text[:20])
    def test_server_stays_and_says_so(
        self, fleet: Fleet, on_the_newest: Host, name: str, script: str
    ) -> None:
        host = on_the_newest
        before = host.sh(f"cat {KEPT}/view.json").stdout
        with self.pushed(fleet, script):
            done = reconcile(host)
            assert done.status == 1
            assert "REFUSED the newest revision: " in done.stdout
            assert "Traceback" not in done.stdout + done.stderr
            assert host.read(f"{KEPT}/view.json") == before
            assert "REFUSED the newest revision: " in host.run(["lxc-gpu", "status"]).stdout
            done = host.run(["lxc-gpu", "plan"], check=False)
            assert done.status == 1
            assert "The newest revision is not taken: " in done.stderr
            if name == "history was rewound":
                assert "If the rewinding is meant" in done.stderr
            assert fleet.types("ssh gpu17-manage start").ok
        done = reconcile(host)
        assert done.ok, done.stdout


class TestBrokenFiles:
    @pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"revision": 1}', "\\xff\\x00"])
    def test_view_is_made_again(self, fleet: Fleet, content: str) -> None:
        host = fleet.gpu17
        before = host.read(f"{KEPT}/view.json")
        host.sh(f"printf '{content}' >{KEPT}/view.json")
        done = fleet.types("ssh gpu17-manage status")
        assert (done.status, done.stdout) == (1, "")
        assert "✗ This server has not been set up from the state repository yet." in done.stderr
        done = reconcile(host)
        assert done.ok, done.stdout + done.stderr
        assert host.read(f"{KEPT}/view.json") == before

    @pytest.mark.parametrize("content", ["", "{", "[]", '{"report": 7}', "\\xff\\x00"])
    def test_status_is_made_again(self, fleet: Fleet, content: str) -> None:
        host = fleet.gpu17
        host.sh(f"printf '{content}' >{KEPT}/status.json")
        done = host.run(["lxc-gpu", "status"], check=False)
        assert (done.status, done.stdout) == (1, "")
        assert "Run `lxc-gpu reconcile`." in done.stderr
        assert "Traceback" not in done.stderr
        assert reconcile(host).ok
        assert host.run(["lxc-gpu", "status"]).ok

    @pytest.mark.parametrize(
        "broken",
        ["rm -r objects", "echo garbage >HEAD", "rm HEAD", "rm -rf objects/*",
         "echo garbage >config", "rm -rf refs packed-refs",
         "for f in $(find objects -type f); do chmod u+w $f; echo garbage >$f; done",
         "cd ..; rm -r state.git; mkdir state.git", "cd ..; rm -r state.git; echo >state.git"],
    )  # fmt: skip
    def test_clone_is_made_again(self, fleet: Fleet, broken: str) -> None:
        host = fleet.gpu17
        before = revision(host)
        host.sh(f"cd {KEPT}/state.git; shopt -s nullglob; {broken}")
        done = reconcile(host)
        assert "Traceback" not in done.stdout + done.stderr
        assert done.ok, done.stdout + done.stderr
        assert revision(host) == before
        assert reconcile(host).ok


class TestServer:
    def test_a_broken_environment_locks_nobody_out(self, fleet: Fleet) -> None:
        host = fleet.gpu17
        end_at_once(host, "lqchen")
        host.sh("mv /opt/lxc-gpu/bin/python /opt/lxc-gpu/bin/away")
        try:
            assert not host.run(["lxc-gpu", "status"], check=False).ok
            for verb in ("status", "start", "status"):
                done = fleet.types(f"ssh gpu17-manage {verb}")
                assert done.ok, done.stderr
            assert fleet.types("ssh gpu17 true").ok
            done = fleet.types("ssh register@gpu17-manage lqchen")
            assert done.ok, done.stderr
        finally:
            host.sh("mv /opt/lxc-gpu/bin/away /opt/lxc-gpu/bin/python")

    def test_a_reboot_loses_nothing(self, fleet: Fleet) -> None:
        host = fleet.gpu17
        host.stop()
        host.start()
        host.wait_until_booted()
        host.sh(f"systemctl stop {STARTS_ROUNDS}")
        eventually(lambda: fleet.types("ssh -o ConnectTimeout=2 gpu17 true").ok, 30)
        assert fleet.types("ssh gpu17 sudo id -u").stdout == "0\n"
        assert reconcile(host).ok
        assert plan(host) == []
