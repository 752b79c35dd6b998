"""A server with 20 people of a real sssd and their homes: all get a container, nothing is lost."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from laboratory.wiring import CLONE

from tests.lab.fleet import KEY, Fleet, plan, reconcile
from tests.lab.sssd import FIRST_UID, GROUP, people_with_homes, recorded
from tests.patience import eventually

NAMES = tuple(f"member{number:02}" for number in range(1, 21))
FIRST = NAMES[:2]
"""Who registers whenever these tests run; everybody does under --all."""
KNOWN = f"getent passwd {' '.join(NAMES)}; getent group domain-users"
NUMBER = 400
"""Where the numbers of these people begin in the fleet's ranges, clear of the other tests'."""


@pytest.fixture(scope="module")
def before(fleet: Fleet) -> Iterator[tuple[list[str], str]]:
    """What was there before lxc-gpu knew of these people: every file, and every account."""
    gpu18 = fleet.gpu18
    with people_with_homes(fleet.lab, gpu18, NAMES):
        yield recorded(gpu18), gpu18.sh(KNOWN).stdout


@pytest.fixture(scope="module")
def lab_of_old(fleet: Fleet, before: tuple[list[str], str]) -> Iterator[Fleet]:
    """The fleet's accounts have a prefix, and gpu18's containers see old homes."""
    mount = "{source: /home, target: /home/old, access: home}"
    fleet.commits(
        "People whom gpu18 had before",
        f"""
        echo account_prefix: gpu- >>fleet.yaml
        echo 'mounts: [{mount}]' >>servers/gpu18.yaml""",
    )
    fleet.rounds()
    yield fleet
    fleet.laptop.sh(f"""
        cd {CLONE}; git fetch -q; git reset -q --hard origin/main
        sed -i /^account_prefix:/d fleet.yaml; sed -i /^mounts:/d servers/gpu18.yaml
        mkdir -p former; git mv users/member*.yaml former/
        git rm -q registrations/gpu18/member*.yaml
        git commit -qam 'As before' --trailer 'Allow-Disable: {len(NAMES)}'
        git push -q""")
    fleet.rounds()
    for name in NAMES:
        fleet.gpu18.run(["lxc-gpu", "purge", name, "--yes"], timeout=120)
    for name in ("lqchen", "ann"):
        fleet.fetch_ssh_files(name)
    fleet.laptop.sh(f"for name in {' '.join(NAMES)}; do userdel -r $name 2>&- || true; done")


def introduce(fleet: Fleet, names: Sequence[str]) -> None:
    """All at once what `fleet.introduce` does for one."""
    keys = fleet.laptop.sh(f"""
        for name in {" ".join(names)}; do
            useradd --create-home $name
            runuser -u $name -- sh -c '
                cd; mkdir -m 700 .ssh; ssh-keygen -q -t ed25519 -N "" -C "" -f {KEY}'
            cat /home/$name/{KEY}.pub
        done""").stdout.splitlines()
    script = "mkdir -p users\n"
    for name, key in zip(names, keys, strict=True):
        number = NUMBER + NAMES.index(name)
        text = f"name: {name}\nlogin: {name}\nuid: {20000 + number}\nport: {22000 + number}\n"
        text += f"subid: {fleet.first_subid() + number * 262_144}\nkeys:\n  - {key.strip()}\n"
        script += f"test ! -e former/{name}.yaml || git mv former/{name}.yaml users/\n"
        script += f"printf %s {shlex.quote(text)} >users/{name}.yaml\n"
    fleet.commits("New people", script)
    assert reconcile(fleet.gpu18).ok
    with ThreadPoolExecutor(3) as pool:
        for done in pool.map(lambda name: fleet.register(name, "gpu18"), names):
            assert done.ok, done.stdout + done.stderr


def inside(fleet: Fleet, name: str, script: str) -> str:
    done = fleet.types(f"ssh gpu18 bash -ec {shlex.quote(shlex.quote(script))}", user=name)
    assert done.ok, done.stdout + done.stderr
    return done.stdout


class TestTwenty:
    def test_the_server_knows_them_by_numbers_of_ten_digits(
        self, before: tuple[list[str], str]
    ) -> None:
        assert before[1].splitlines()[0].startswith(f"member01:*:{FIRST_UID + 1}:{GROUP}:")
        assert len(before[1].splitlines()) == len(NAMES) + 1
        assert len(before[0]) == len(NAMES) * 8

    def test_beforehand_old_homes_are_looked_at(self, lab_of_old: Fleet) -> None:
        """Whose would be left alone, by kind, and whether the file system maps owners."""
        gpu18 = lab_of_old.gpu18
        assert "old homes of 0 of " in gpu18.sh("lxc-gpu adopt --check", check=False).stdout
        gpu18.sh("""
            echo LQChen:x:3011:3011::/home/LQChen:/bin/sh >>/etc/passwd
            install -d -o 3011 /home/LQChen""")
        try:
            said = gpu18.sh("lxc-gpu adopt --check", check=False).stdout
        finally:
            gpu18.sh("sed -i /^LQChen:x:3011/d /etc/passwd; rmdir /home/LQChen")
        assert "(old-home-local): lqchen." in said
        assert "in registrations/gpu18/lqchen.yaml" in said

    def test_they_register_and_find_what_was_theirs(self, lab_of_old: Fleet) -> None:
        introduce(lab_of_old, FIRST)
        for name, other in (FIRST, FIRST[::-1]):
            done = lab_of_old.types("ssh -n gpu18-manage", user=name)
            assert done.ok, done.stderr
            assert "left out" not in done.stdout
            said = inside(
                lab_of_old,
                name,
                "cd /home/old; cat draft; stat -c '%U %a %n' . .ssh/authorized_keys tool; "
                f"echo new >scratch/{name}; ls -d /home/{other} /home/old/../{other} 2>&- || true",
            )
            assert (
                said
                == f"by {name}\n{name} 700 .\n{name} 600 .ssh/authorized_keys\n{name} 4750 tool\n"
            )
        owners = lab_of_old.gpu18.sh("cd /home; stat -c '%u %g' */scratch/member*").stdout
        assert owners.split() == [str(FIRST_UID + 1), str(GROUP), str(FIRST_UID + 2), str(GROUP)]

    @pytest.mark.matrix
    def test_so_does_everybody_else(self, lab_of_old: Fleet) -> None:
        introduce(lab_of_old, NAMES[2:])
        for name in (NAMES[7], NAMES[-1]):
            assert lab_of_old.types("ssh -n gpu18-manage", user=name).ok
            assert inside(lab_of_old, name, "cat /home/old/thesis") == f"by {name}\n"

    def test_who_is_not_known_for_a_while_is_left_alone(self, lab_of_old: Fleet) -> None:
        """Without its sssd the server can't tell whose the homes are: it says so, and waits."""
        gpu18 = lab_of_old.gpu18
        gpu18.sh("systemctl stop sssd; rm -f /var/lib/sss/mc/*")
        try:
            done = reconcile(gpu18, "--kind", "old_home")
            assert done.status == 1, done.stdout
            assert "(old-home-unknown)" in done.stdout
            assert "`getent passwd member01` has to name it" in done.stdout
        finally:
            gpu18.sh("systemctl start sssd")
        eventually(lambda: gpu18.sh(KNOWN, check=False).ok)
        assert reconcile(gpu18, "--kind", "old_home").ok

    def test_after_a_boot_containers_wait_for_who_knows_these_people(
        self, lab_of_old: Fleet
    ) -> None:
        """systemd.special(7), nss-user-lookup.target: sssd.service is before it."""
        for unit in ("lxc-gpu-come-back", "lxc-gpu-reconcile"):
            after = lab_of_old.gpu18.run(["systemctl", "show", "-p", "After", "--value", unit])
            assert "nss-user-lookup.target" in after.stdout.split()
        before = lab_of_old.gpu18.run(["systemctl", "show", "-p", "Before", "--value", "sssd"])
        assert "nss-user-lookup.target" in before.stdout.split()

    def test_all_is_as_it_was(self, lab_of_old: Fleet, before: tuple[list[str], str]) -> None:
        """Every file of every home, every account, and they log in as they always did."""
        gpu18 = lab_of_old.gpu18
        assert reconcile(gpu18).ok
        assert plan(gpu18) == []
        assert recorded(gpu18) == before[0]
        assert gpu18.sh(KNOWN).stdout == before[1]
        for name in FIRST:
            said = gpu18.sh(f"su - {name} -c 'id -un; pwd; cat thesis; id -u gpu-{name}'").stdout
            number = 20000 + NUMBER + NAMES.index(name)
            assert said == f"{name}\n/home/{name}\nby {name}\n{number}\n"

    def test_doctor_finds_nothing_in_the_way(self, lab_of_old: Fleet) -> None:
        said = lab_of_old.gpu18.run(["lxc-gpu", "doctor", "--json"], check=False).stdout
        found = json.loads(said)["findings"]
        assert [f["text"] for f in found if f["level"] == "wrong" and "member" in f["text"]] == []
