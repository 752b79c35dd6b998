"""Homes that people have had on a server, in containers: theirs, nobody else's, and attacked."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator

import pytest
from _pytest.mark import ParameterSet
from laboratory.hosts import Host

from state.command import Finished
from tests.lab.fleet import Fleet, end_at_once, plan, reconcile

HOME, PLACE = "/srv/homes/LQChen", "/run/lxc-gpu/old-homes/lqchen%srv%homes"
MOUNT = "{source: /srv/homes, target: /home/old, access: home}"
NO_MOUNTS = "sed -i '/^mounts:/d' servers/gpu17.yaml registrations/gpu17/*.yaml"
PREPARED = f"""
install -d -m 0755 /srv/homes
useradd --badname --uid 3001 --user-group --home-dir {HOME} --create-home LQChen
useradd --uid 3002 --user-group --home-dir /srv/homes/bob --create-home bob
cd {HOME}
runuser -u LQChen -- sh -c 'echo mine >mine; mkdir sub; echo deep >sub/deep; chmod 600 mine'
echo secret >of-root; chmod 600 of-root
echo open >open-of-root; chmod 666 open-of-root
install -o bob -g bob -m 600 /dev/null ../bob/secret; echo bobs >../bob/secret
ln ../bob/secret of-bob
install -o LQChen -g bob -m 660 /dev/null of-a-group
mknod -m 666 zero c 1 5
"""
IN_GROUP = f"install -d /srv/homes/group; mv {HOME} /srv/homes/group/; usermod -d /srv/homes/group/LQChen LQChen"  # noqa: E501
NOT_IN_GROUP = (
    f"mv /srv/homes/group/LQChen {HOME}; rmdir /srv/homes/group; usermod -d {HOME} LQChen"
)
OF_A_CONTAINER = "$(awk -F: '$1 == \"lqchen\" {print $2 + 5}' /etc/subuid)"
NOTED = "/var/lib/lxc-gpu/old-owners"
REMOVED = "userdel -r LQChen; userdel -r bob; rm -rf /srv/homes /var/lib/lxc-gpu/old-owners"
LISTED = f"cd {HOME}; find . -printf '%p %U:%G %m %s %T@ %n\\n' | sort; find . -type f | sort | xargs sha256sum"  # noqa: E501

ATTACKS = (
    ("cat of-bob", "Permission denied"),
    ("sudo cat of-bob", "Permission denied"),
    ("sudo cat of-root", "Permission denied"),
    ("echo x >>open-of-root", "Permission denied"),
    ("sudo sh -c 'echo x >>open-of-root'", "Permission denied"),
    ("sudo chmod 666 of-bob", "Value too large"),
    ("sudo chown lqchen of-bob", "Value too large"),
    ("echo x >>of-a-group", "Permission denied"),
    ("sudo touch made-by-root", "Value too large"),
    ("sudo mkdir made-by-root", "Value too large"),
    ("sudo install -o root -m 4755 /bin/sh made-by-root", "Value too large"),
    ("sudo chown root mine", "Value too large"),
    ("sudo chown 3002 mine", "Value too large"),
    ("sudo chgrp root mine", "Value too large"),
    ("cp /bin/ping pinged; sudo setcap cap_net_raw+ep pinged", "Invalid file"),
    ("cat <zero | head -c 1 | grep -q . ", "Permission denied"),
    ("sudo mknod z c 1 5", "Value too large"),
    ("mknod z c 1 5", "Operation not permitted"),
    ("sudo mount -o remount,bind,suid,dev /home/old", "permission denied"),
    ("cat ../bob/secret", "No such file"),
    ("sudo cat /home/old/../bob/secret", "No such file"),
)
"""What is tried inside, in the old home, and what comes of it."""


def among(*words: str) -> ParameterSet:
    """One of many alike."""
    return pytest.param(*words, marks=pytest.mark.matrix)


def commit(fleet: Fleet, mount: str, registered: str = "") -> None:
    script = f"{NO_MOUNTS}\necho 'mounts: [{mount}]' >>servers/gpu17.yaml\n"
    if registered:
        script += f"echo 'mounts: [{registered}]' >>registrations/gpu17/lqchen.yaml\n"
    fleet.commits("Old homes on gpu17", script)


@pytest.fixture(scope="module")
def homes(fleet: Fleet) -> Iterator[Fleet]:
    """gpu17 with the home that LQChen has had there, and bob's, who is a stranger."""
    fleet.gpu17.sh(PREPARED)
    commit(fleet, MOUNT, MOUNT)
    done = reconcile(fleet.gpu17)
    assert done.ok, done.stdout
    assert "old_home: let lqchen's container see their old home in /srv/homes" in done.stdout
    restart(fleet)
    yield fleet
    fleet.commits("No mounts on gpu17", NO_MOUNTS)
    assert reconcile(fleet.gpu17).ok
    restart(fleet)
    fleet.gpu17.sh(REMOVED)


@pytest.fixture
def gpu17(homes: Fleet) -> Host:
    return homes.gpu17


def restart(fleet: Fleet, user: str = "lqchen") -> str:
    end_at_once(fleet.gpu17, user)
    done = fleet.types("ssh gpu17-manage", user=user)
    assert done.ok, done.stderr
    return done.stdout


def inside(fleet: Fleet, script: str) -> Finished:
    return fleet.types(f"ssh gpu17 bash -ec {shlex.quote(shlex.quote(script))}")


def says(fleet: Fleet, script: str) -> str:
    done = inside(fleet, script)
    assert done.ok, done.stdout + done.stderr
    return done.stdout


def mended(gpu17: Host) -> Finished:
    return reconcile(gpu17, "--kind", "old_home")


class TestInside:
    def test_what_was_theirs_is_theirs_and_stays_the_old_owners(self, homes: Fleet) -> None:
        said = says(homes, "cd /home/old; stat -c '%U %G %n' . mine sub/deep of-root of-bob; "
                           "cat mine; echo new >new; mkdir made; mv sub/deep made; "
                           "sudo cat mine; sudo sh -c 'echo >>mine'")  # fmt: skip
        assert said == (
            "lqchen lqchen .\nlqchen lqchen mine\nlqchen lqchen sub/deep\n"
            "nobody nogroup of-root\nnobody nogroup of-bob\nmine\nmine\n"
        )
        seen = homes.gpu17.sh(f"cd {HOME}; stat -c '%u %g' new made made/deep mine; cat new")
        assert seen.stdout == "3001 3001\n" * 4 + "new\n"

    def test_status_names_it_and_who_has_had_none_reads_nothing(self, homes: Fleet) -> None:
        said = homes.types("ssh gpu17-manage status").stdout
        assert "mount    /home/old: the home that you have had on this server" in said
        assert "old" not in restart(homes, "ann")
        said = homes.types("ssh gpu17-manage status", user="ann").stdout
        assert "/home/old: NOT THERE. You had no home in /srv/homes." in said
        assert homes.types("ssh gpu17 ls /home/old", user="ann").stdout == ""

    def test_root_inside_is_nobody_there_and_others_files_stay_shut(self, homes: Fleet) -> None:
        watched = "cd /srv/homes; cat bob/secret LQChen/open-of-root; stat -c '%U %a %n' */*"
        before = homes.gpu17.sh(watched).stdout
        script = "".join(
            f"echo {number}; (cd /home/old; {attack}) 2>&1 && echo THROUGH || true\n"
            for number, (attack, _) in enumerate(ATTACKS)
        )
        said = says(homes, script)
        for number, (attack, why) in enumerate(ATTACKS):
            _, _, rest = f"\n{said}".partition(f"\n{number}\n")
            answer = rest.partition(f"\n{number + 1}\n")[0]
            assert "THROUGH" not in answer, attack
            assert why in answer, (attack, answer)
        homes.gpu17.sh(f"rm -f {HOME}/pinged")
        assert homes.gpu17.sh(watched).stdout == before

    def test_no_set_uid_program_is_anybody_there(self, homes: Fleet) -> None:
        said = says(homes, "cd /home/old; cp /usr/bin/id .; chmod 4755 id; sudo -u nobody ./id; "
                           "rm id")  # fmt: skip
        assert "euid" not in said


class TestWhoseItIs:
    """Decided on the server: what doesn't agree is left alone, and the container starts."""

    @pytest.mark.parametrize(
        ("broken", "put_back", "code", "typed"),
        [(f"mv {HOME} {HOME}.x; ln -s bob {HOME}", f"rm {HOME}; mv {HOME}.x {HOME}",
          "old-home-taken", f"`chown -h 3001 {HOME}`"),
         among("usermod -d /srv/homes/bob LQChen", f"usermod -d {HOME} LQChen",
               "old-home-taken", "/srv/homes/bob is a folder of uid 3002, not of uid 3001"),
         (f"{IN_GROUP}; chmod g+w /srv/homes/group", f"{NOT_IN_GROUP}",
          "old-home-open", "`chown root /srv/homes/group; chmod go-w /srv/homes/group`"),
         among(f"{IN_GROUP}; chown bob /srv/homes/group", f"{NOT_IN_GROUP}",
               "old-home-open", "others than root may change /srv/homes/group"),
         among(f"mv {HOME} {HOME}.x; ln -s /etc {HOME}", f"rm {HOME}; mv {HOME}.x {HOME}",
               "old-home-taken", "not a plain folder"),
         among(f"chown bob {HOME}", f"chown LQChen {HOME}",
               "old-home-taken", "a folder of uid 3002"),
         among("usermod -d /srv/homes/../../etc LQChen", f"usermod -d {HOME} LQChen",
               "old-home-elsewhere", "isn't in /srv/homes"),
         among("usermod -d /srv/homes LQChen", f"usermod -d {HOME} LQChen",
               "old-home-elsewhere", "isn't in /srv/homes"),
         among("usermod -u 150 LQChen", "usermod -u 3001 LQChen",
               "old-home-account", "a system account"),
         among(f"usermod -u {OF_A_CONTAINER} LQChen", "usermod -u 3001 LQChen",
               "old-home-account", "files of containers have that uid")],
    )  # fmt: skip
    def test_what_does_not_agree_is_left_alone(
        self, homes: Fleet, broken: str, put_back: str, code: str, typed: str
    ) -> None:
        gpu17, watched = (
            homes.gpu17,
            "cd /srv/homes/bob; stat -c '%u %a %Y' . secret; stat -c '%u %a' /etc",
        )
        before = gpu17.sh(watched).stdout
        gpu17.sh(f"umount {PLACE} 2>&- || true; {broken}")
        try:
            done = mended(gpu17)
            assert done.status == 1, done.stdout
            assert "FAILED old_home lqchen: " in done.stdout
            assert typed in done.stdout
            assert f"({code})" in done.stdout
            assert not gpu17.sh(f"mountpoint -q {PLACE}", check=False).ok
        finally:
            gpu17.sh(put_back)
        assert mended(gpu17).ok
        assert gpu17.sh(watched).stdout == before

    def test_an_account_of_the_servers_own_needs_a_sysadmins_word(self, homes: Fleet) -> None:
        """Whoever can become root needs it, too; with it, both are shown."""
        gpu17, vouched = homes.gpu17, "registrations/gpu17/lqchen.yaml"
        commit(homes, MOUNT)
        gpu17.sh("groupadd gpu-admins; usermod -aG gpu-admins LQChen; mkdir -p /etc/sudoers.d")
        try:
            done = reconcile(gpu17)
            assert "(old-home-local)" in done.stdout
            assert f"`mounts: [{MOUNT}]` in {vouched}" in done.stdout
            assert not gpu17.sh(f"mountpoint -q {PLACE}", check=False).ok
            gpu17.sh("echo '%gpu-admins ALL=ALL' >/etc/sudoers.d/gpu-admins")
            done = mended(gpu17)
            assert "(old-home-root)" in done.stdout
            assert "`gpasswd --delete LQChen gpu-admins`" in done.stdout
            commit(homes, MOUNT, MOUNT)
            assert reconcile(gpu17).ok
            gpu17.sh(f"mountpoint -q {PLACE}")
        finally:
            gpu17.sh("groupdel gpu-admins; rm -f /etc/sudoers.d/gpu-admins")

    def test_a_login_that_changes_hands_takes_no_home_along(self, homes: Fleet) -> None:
        """Neither another user's home, nor a second one."""
        gpu17 = homes.gpu17
        assert gpu17.read(f"{NOTED}/lqchen") == "3001\n"
        for broken, mend in ((f"mv {NOTED}/lqchen {NOTED}/ann", f"rm {NOTED}/ann"),
                             (f"echo 3002 >{NOTED}/lqchen", f"rm {NOTED}/lqchen")):  # fmt: skip
            gpu17.sh(f"umount {PLACE}; {broken}")
            done = mended(gpu17)
            assert "(old-home-changed)" in done.stdout
            assert f"`{mend}`" in done.stdout
            assert not gpu17.sh(f"mountpoint -q {PLACE}", check=False).ok
            gpu17.sh(mend)
            assert mended(gpu17).ok
        assert gpu17.sh(f"mountpoint -q {PLACE}; cat {NOTED}/*").stdout == "3001\n"

    @pytest.mark.matrix
    def test_a_folder_that_changes_while_it_is_looked_at_is_never_another_ones(
        self, homes: Fleet
    ) -> None:
        """Somebody who may write in the source, as nobody should, puts a link in all the time."""
        gpu17 = homes.gpu17
        gpu17.sh(f"""
            ln -s bob {HOME}.link
            systemd-run -q --unit=swaps python3 -c '
import ctypes
libc = ctypes.CDLL(None)
while True:
    libc.renameat2(-100, b"{HOME}", -100, b"{HOME}.link", 2)'
            """)
        try:
            for _ in range(5):
                gpu17.sh(f"umount {PLACE} 2>&- || true")
                mended(gpu17)
                seen = gpu17.sh(f"mountpoint -q {PLACE} && ls {PLACE} || true").stdout
                assert "secret" not in seen.split()
        finally:
            gpu17.sh(f"""
                systemctl stop swaps
                test ! -L {HOME} || {{ rm {HOME}; mv {HOME}.link {HOME}; }}
                rm -f {HOME}.link""")
        assert mended(gpu17).ok


class TestMounts:
    @pytest.mark.parametrize(
        "broken",
        [f"umount {PLACE}",
         among(f"mount -o remount,bind,dev {PLACE}"),
         among(f"umount {PLACE}; mount --bind /srv/homes/bob {PLACE}")],
    )  # fmt: skip
    def test_drift_is_named_and_healed(self, gpu17: Host, broken: str) -> None:
        seen = "old_home: let lqchen's container see their old home in /srv/homes"
        gpu17.sh(broken)
        assert plan(gpu17) == [seen]
        assert seen in mended(gpu17).stdout
        assert plan(gpu17) == []

    @pytest.mark.matrix
    def test_what_nobody_wants_is_taken_away(self, gpu17: Host) -> None:
        place = PLACE.replace("lqchen", "mallory")
        gpu17.sh(f"mkdir '{place}'; mount --bind {HOME} '{place}'")
        gone = "old_home: let mallory's container see no old home in /srv/homes any more"
        assert plan(gpu17) == [gone]
        assert mended(gpu17).ok
        assert not gpu17.sh(f"test -e {place}", check=False).ok

    @pytest.mark.matrix
    def test_what_the_kernel_refuses_is_a_note_at_the_start(self, homes: Fleet) -> None:
        gpu17 = homes.gpu17
        gpu17.sh(f"umount {PLACE}; mkdir -p {PLACE}; touch {PLACE}/x; mount --bind {HOME} {PLACE}")
        said = restart(homes)
        assert "/home/old is left out. " in said
        assert "Directory not empty" in said
        gpu17.sh(f"rm {PLACE}/x")
        assert "left out" not in restart(homes)

    @pytest.mark.matrix
    def test_a_file_system_that_cannot_is_named_in_words(self, homes: Fleet) -> None:
        gpu17 = homes.gpu17
        kind = gpu17.sh("mkdir -p /elsewhere; stat -f -c %T /elsewhere").stdout.strip()
        if kind != "overlayfs":
            pytest.skip(f"the lab's machines stand on {kind}, which may be able to")
        gpu17.sh(f"cp -a {HOME} /elsewhere/LQChen; usermod -d /elsewhere/LQChen LQChen")
        try:
            elsewhere = MOUNT.replace("/srv/homes", "/elsewhere")
            commit(homes, elsewhere, elsewhere)
            done = reconcile(gpu17)
            assert "/elsewhere/LQChen can't be shown with its owner mapped: Invalid" in done.stdout
            assert "`findmnt --target /elsewhere/LQChen`" in done.stdout
            assert "/home/old is left out. /elsewhere/LQChen can't be" in restart(homes)
            found = json.loads(gpu17.run(["lxc-gpu", "doctor", "--json"], check=False).stdout)
            assert any("/elsewhere/LQChen" in f["text"] for f in found["findings"])
        finally:
            gpu17.sh(f"usermod -d {HOME} LQChen; rm -r /elsewhere")
            commit(homes, MOUNT, MOUNT)
            assert reconcile(gpu17).ok

    def test_the_disk_is_as_it_was(self, homes: Fleet) -> None:
        before = homes.gpu17.sh(LISTED).stdout
        restart(homes)
        says(homes, "find /home/old | wc -l; cat /home/old/mine")
        assert reconcile(homes.gpu17).ok
        assert homes.gpu17.sh(LISTED).stdout == before
