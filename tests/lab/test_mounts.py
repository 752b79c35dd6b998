"""Folders of the server in containers: written to by their users, by root inside, and attacked."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator

import pytest
from laboratory.hosts import Host

from state.command import Finished
from tests.lab.fleet import Fleet, end_at_once, in_container, plan, reconcile, system_of

MOUNTS = """\
mounts:
  - {source: /srv/scratch, target: /SSD}
  - {source: /srv/datasets, target: /datasets, access: read-only}
  - {source: /srv/shared, target: /SSD/shared, access: shared}
  - {source: /srv/nas, target: /NAS, mounted: true}
"""
SOURCES = """
install -d -m 0711 /srv/scratch /srv/nas
install -d -m 0755 /srv/datasets
install -d -m 0777 /srv/datasets/open
install -d -m 1777 /srv/shared
echo pictures >/srv/datasets/file
"""
NO_MOUNTS = "sed -i '/^mounts:/,$d' servers/gpu17.yaml registrations/gpu17/*.yaml"
UNMOUNT = "mountpoint -q /srv/nas && umount --lazy /srv/nas || true"


def commit_mounts(fleet: Fleet, message: str, text: str) -> None:
    fleet.commits(message, f"{NO_MOUNTS}\ncat >>servers/gpu17.yaml <<'END'\n{text}END")


@pytest.fixture(scope="module")
def mounts(fleet: Fleet) -> Iterator[Fleet]:
    """gpu17 with four sources, of which the NAS is away; both containers run, and see the rest."""
    fleet.gpu17.sh(SOURCES)
    commit_mounts(fleet, "Mounts on gpu17", MOUNTS)
    done = reconcile(fleet.gpu17)
    assert done.status == 1
    assert "FAILED mount /srv/nas: Nothing is mounted at /srv/nas on this server." in done.stdout
    for name in ("lqchen", "ann"):
        end_at_once(fleet.gpu17, name)
        done = fleet.types("ssh gpu17-manage", user=name)
        assert done.ok, done.stderr
        assert "Note: /NAS is left out. Nothing is mounted at /srv/nas" in done.stdout
    yield fleet
    fleet.gpu17.sh(UNMOUNT)
    fleet.commits("No mounts on gpu17", NO_MOUNTS)
    assert reconcile(fleet.gpu17).ok
    for name in ("lqchen", "ann"):
        end_at_once(fleet.gpu17, name)
        assert fleet.types("ssh gpu17-manage", user=name).ok
    fleet.gpu17.sh("rm -rf /srv/scratch /srv/datasets /srv/shared /srv/nas")


@pytest.fixture
def gpu17(mounts: Fleet) -> Host:
    return mounts.gpu17


def inside(fleet: Fleet, script: str, user: str = "lqchen") -> Finished:
    """A script in somebody's container, as the user."""
    return fleet.types(f"ssh gpu17 bash -ec {shlex.quote(shlex.quote(script))}", user=user)


def says(fleet: Fleet, script: str, user: str = "lqchen") -> str:
    done = inside(fleet, script, user)
    assert done.ok, done.stdout + done.stderr
    return done.stdout


def refused(fleet: Fleet, script: str, why: str, user: str = "lqchen") -> None:
    done = inside(fleet, script, user)
    assert not done.ok, done.stdout
    assert why in done.stderr


def restart(fleet: Fleet) -> Finished:
    end_at_once(fleet.gpu17, "lqchen")
    done = fleet.types("ssh gpu17-manage")
    assert done.ok, done.stderr
    return done


class TestOwn:
    def test_user_and_root_write_in_it_and_nobody_else_sees_it(self, mounts: Fleet) -> None:
        said = says(mounts, "echo mine >/SSD/a; sudo sh -c 'echo roots >/SSD/b; chown 33 /SSD/b'; "
                            "stat -c '%U %a' /SSD /SSD/a; cat /SSD/[ab]")  # fmt: skip
        assert said == "lqchen 700\nlqchen 644\nmine\nroots\n"
        assert says(mounts, "ls /SSD", user="ann") == "shared\n"
        gpu17 = mounts.gpu17
        subid = int(gpu17.sh("sed -n s/^lqchen://p /etc/subuid | cut -d: -f1").stdout)
        shown = gpu17.sh("stat -c '%u %g %a' /srv/scratch/lqchen /srv/scratch/lqchen/b").stdout
        assert shown == f"{subid + 1000} {subid + 1000} 700\n{subid + 33} {subid} 644\n"

    def test_hard_links_and_devices_lead_nowhere(self, mounts: Fleet) -> None:
        refused(mounts, "sudo mknod /SSD/zero c 1 5", "Operation not permitted")
        mounts.gpu17.sh("mknod -m 666 /srv/scratch/lqchen/zero c 1 5")  # e.g. by way of a NAS
        refused(mounts, "head -c 1 /SSD/zero", "Permission denied")
        refused(mounts, "sudo mount -o remount,bind,dev /SSD", "permission denied")
        mounts.gpu17.sh("rm /srv/scratch/lqchen/zero")

    def test_it_is_made_again_by_a_round_but_never_taken_from_somebody(self, gpu17: Host) -> None:
        gpu17.sh("mv /srv/scratch/ann /srv/scratch/kept; mkdir /srv/scratch/ann")
        done = reconcile(gpu17)
        taken = "FAILED user_folder ann: /srv/scratch/ann is not ann's folder (owner and group "
        assert taken in done.stdout
        assert "chown -hR" in done.stdout
        gpu17.sh("rmdir /srv/scratch/ann; ln -s /etc /srv/scratch/ann")
        assert taken in reconcile(gpu17).stdout
        gpu17.sh("rm /srv/scratch/ann; mkdir /srv/scratch/.ann.lxc-gpu-new")
        assert "user_folder: give ann the folder /srv/scratch/ann" in reconcile(gpu17).stdout
        assert gpu17.sh("ls -A /srv/scratch").stdout.split() == ["ann", "kept", "lqchen"]
        gpu17.sh("rmdir /srv/scratch/ann; mv /srv/scratch/kept /srv/scratch/ann")


class TestReadOnly:
    def test_everybody_reads_and_nobody_writes(self, mounts: Fleet) -> None:
        assert says(mounts, "cat /datasets/file") == "pictures\n"
        for who in ("", "sudo "):
            refused(mounts, f"{who}touch /datasets/open/x", "Read-only file system")

    @pytest.mark.parametrize(
        "attack",
        ["sudo mount -o remount,bind,rw /datasets",
         "sudo mount -o remount,rw /datasets",
         "mkdir /tmp/m; sudo mount --bind /datasets /tmp/m; sudo mount -o remount,bind,rw /tmp/m",
         "sudo unshare -m sh -c 'mount -o remount,bind,rw /datasets && touch /datasets/open/x'",
         "sudo umount /datasets && sudo touch /datasets/open/x"],
    )  # fmt: skip
    def test_root_inside_cannot_make_it_writable(self, mounts: Fleet, attack: str) -> None:
        assert not inside(mounts, f"{attack}; sudo touch /datasets/open/x /tmp/m/open/x").ok
        assert mounts.gpu17.sh("ls /srv/datasets/open").stdout == ""
        restart(mounts)

    def test_what_is_mounted_below_it_is_not_shown(self, mounts: Fleet, gpu17: Host) -> None:
        gpu17.sh("mount -t tmpfs -o mode=1777 later /srv/datasets/open")
        try:
            refused(mounts, "touch /datasets/open/x", "Read-only file system")
            assert gpu17.sh("ls /srv/datasets/open").stdout == ""
        finally:
            gpu17.sh("umount /srv/datasets/open")


class TestShared:
    def test_two_users_share_and_neither_removes_the_others(self, mounts: Fleet) -> None:
        says(mounts, "echo hello >/SSD/shared/of-lqchen")
        assert says(mounts, "cat /SSD/shared/of-lqchen", user="ann") == "hello\n"
        says(mounts, "echo hi >/SSD/shared/of-ann", user="ann")
        for who in ("", "sudo "):
            refused(mounts, f"{who}rm -f /SSD/shared/of-ann", "Operation not permitted")
            refused(mounts, f"{who}sh -c 'echo >>/SSD/shared/of-ann'", "Permission denied")
        says(mounts, "rm /SSD/shared/of-lqchen")

    def test_no_set_uid_program_reaches_others(self, mounts: Fleet) -> None:
        says(mounts, "sudo install -m 4755 /usr/bin/id /SSD/shared/id")
        assert "euid" not in says(mounts, "/SSD/shared/id", user="ann")
        assert "euid" not in says(mounts, "/SSD/shared/id")
        says(mounts, "sudo rm /SSD/shared/id")


@pytest.fixture(scope="class")
def all_there_again(mounts: Fleet) -> Iterator[None]:
    """What is wrong only with the NAS in the end."""
    yield
    done = reconcile(mounts.gpu17).stdout
    assert [line for line in done.splitlines() if "FAILED" in line and "/srv/nas" not in line] == []


class TestAway:
    def test_it_is_said_everywhere_and_never_replaced(self, mounts: Fleet, gpu17: Host) -> None:
        assert any("/srv/nas" in line for line in plan(gpu17))
        found = json.loads(gpu17.run(["lxc-gpu", "doctor", "--json"], check=False).stdout)
        assert any("/srv/nas" in f["text"] and f["level"] == "wrong" for f in found["findings"])
        refused(mounts, "ls /NAS", "No such file")
        assert gpu17.sh("ls -A /srv/nas").stdout == ""
        journal = gpu17.sh("journalctl -q -t lxc-gpu --since=-5min -o cat").stdout
        assert "event=mount-left-out user=lqchen target=/NAS code=mount-away" in journal
        status = json.loads(mounts.types("ssh gpu17-manage status --json").stdout)
        by_target = {mount["target"]: mount for mount in status["mounts"]}
        assert not by_target["/NAS"]["there"]
        assert by_target["/SSD"]["there"]

    def test_once_it_is_back_a_restart_shows_it(self, mounts: Fleet, gpu17: Host) -> None:
        gpu17.sh("mount -t tmpfs -o mode=711 nas /srv/nas")
        done = reconcile(gpu17)
        assert done.ok, done.stdout
        assert "user_folder: give lqchen the folder /srv/nas/lqchen" in done.stdout
        assert "left out" not in restart(mounts).stdout
        says(mounts, "echo x >/NAS/x")
        assert gpu17.sh("cat /srv/nas/lqchen/x").stdout == "x\n"
        gpu17.sh(UNMOUNT)
        end_at_once(gpu17, "lqchen")
        assert "/NAS is left out" in restart(mounts).stdout
        assert reconcile(gpu17).status == 1

    @pytest.mark.parametrize(
        ("broken", "typed"),
        [("rmdir /srv/shared", "install -d -m 1777 /srv/shared"),
         ("chmod 755 /srv/shared", "chmod 1777 /srv/shared"),
         ("chmod 700 /srv/scratch", "chmod 0711 /srv/scratch"),
         ("chmod 777 /srv/scratch", "chmod 0711 /srv/scratch"),
         ("chown 1000 /srv/scratch", "chown root:root /srv/scratch"),
         ("mv /srv/shared /srv/x; ln -s /etc /srv/shared", "name the folder itself")],
    )  # fmt: skip
    def test_what_is_wrong_with_a_source_says_what_to_type(
        self, gpu17: Host, all_there_again: None, broken: str, typed: str
    ) -> None:
        before = gpu17.sh("find /srv/shared -mindepth 1 -delete; ls -la /etc").stdout
        gpu17.sh(broken)
        try:
            done = reconcile(gpu17)
            assert done.status == 1
            assert typed in done.stdout
            assert gpu17.sh("ls -la /etc").stdout == before
        finally:
            gpu17.sh(f"""
                rm -rf /srv/x
                test ! -L /srv/shared || rm /srv/shared
                chown root /srv/scratch
                {SOURCES}""")


class TestTargets:
    """What the container's root puts where a mount belongs, before the next start."""

    @pytest.mark.parametrize(
        ("laid", "left_out"),
        [("rm -rf SSD; ln -s /etc SSD", True),
         ("rm -rf SSD; ln -s ../../../../../../../../srv/scratch/ann SSD", True),
         ("rm -rf SSD; echo >SSD", True),
         ("rm -rf SSD; mkfifo SSD", True),
         ("rm -rf datasets; ln -s ../../../../../../etc datasets", False),
         ("rm -rf SSD", False)],
    )  # fmt: skip
    def test_are_not_followed(self, mounts: Fleet, laid: str, left_out: bool) -> None:
        gpu17 = mounts.gpu17
        end_at_once(gpu17, "lqchen")
        watched = "ls -laR /srv/scratch/ann; ls -la /etc; mount | grep -c /run/lxc-gpu/mounts"
        before = gpu17.sh(watched).stdout
        in_container(gpu17, "lqchen", laid)
        try:
            done = mounts.types("ssh gpu17-manage")
            assert done.ok, done.stderr
            assert ("/SSD is left out. In your container" in done.stdout) == left_out
            assert gpu17.sh(watched).stdout == before
            assert mounts.types("ssh gpu17 true").ok
        finally:
            end_at_once(gpu17, "lqchen")
            in_container(gpu17, "lqchen", "rm -rf SSD datasets")
            assert "SSD" not in restart(mounts).stdout


class TestOverTheHome:
    @pytest.mark.parametrize("target", ["/home", "/home/lqchen", "/home/lqchen/.ssh"])
    def test_keys_work_and_are_revoked_there(self, mounts: Fleet, target: str) -> None:
        gpu17 = mounts.gpu17
        commit_mounts(mounts, f"{target} on a mount", MOUNTS)
        mounts.commits(
            "and lqchen's home",
            f"""
            printf 'mounts:\\n  - {{source: /srv/homes, target: {target}}}\\n' \
                >>registrations/gpu17/lqchen.yaml""",
        )
        gpu17.sh("install -d -m 0711 /srv/homes")
        try:
            made = reconcile(gpu17).stdout
            assert "container: update the container of lqchen: the mounted home" in made
            assert "FAILED container" not in made
            assert "/home" not in restart(mounts).stdout
            seen = says(mounts, f"mountpoint -q {target}; stat -c %U {target}; echo >~/.ssh/new")
            assert seen == "lqchen\n"
            assert gpu17.sh("find /srv/homes/lqchen -name new | wc -l").stdout == "1\n"
            file = gpu17.sh("find /srv/homes/lqchen -name authorized_keys").stdout.strip()
            rootfs = f"{system_of(gpu17, 'lqchen')}/home/lqchen/.ssh/authorized_keys"
            mounts.commits("Another key", "sed -i 's/^keys:/keys:\\n  - '\"$(cut -d' ' -f1,2 "
                           "/etc/ssh/ssh_host_ed25519_key.pub | sed 's,/,\\\\/,g')\"'/' "
                           "users/lqchen.yaml")  # fmt: skip
            reconcile(gpu17)
            for place in (file, rootfs):
                assert gpu17.read(place).count("ssh-ed25519") == 2, place
            mounts.commits("And gone", "sed -i '/^keys:/{n;d}' users/lqchen.yaml")
            reconcile(gpu17)
            for place in (file, rootfs):
                assert gpu17.read(place).count("ssh-ed25519") == 1, place
        finally:
            commit_mounts(mounts, "As before", MOUNTS)
            reconcile(gpu17)
            restart(mounts)
            gpu17.sh("rm -rf /srv/homes")
