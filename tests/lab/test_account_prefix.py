"""Servers that have people's own accounts already: ours have names of their own beside them."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from laboratory.layout import DOMAIN

from tests.lab.fleet import (
    CONTAINERS,
    EXTRA_PASSWD,
    KEYS,
    NO_OTHER_SOURCE,
    OTHER_SOURCE,
    PEOPLE,
    Fleet,
    empty,
    plan,
    reconcile,
    running,
)
from tests.patience import eventually

SNAPSHOTS = "/var/lib/lxc-gpu/snapshots"
OF_THE_LAB = """
getent passwd ann lqchen; getent group ann
grep ^ann: /etc/shadow /etc/subuid /etc/subgid; ls -lnR --full-time /home/ann
find /home/ann -type f | xargs sha256sum
"""
"""All that a server has of people whom it had before."""


@pytest.fixture(scope="module")
def of_the_lab(fleet: Fleet) -> Iterator[str]:
    """gpu18 has an account ann with a home, and knows lqchen from another source of accounts."""
    empty(fleet, "gpu18")
    fleet.gpu18.sh(f"""
        useradd --uid 1776 --create-home --shell /bin/bash ann
        echo thesis >/home/ann/thesis; chown ann: /home/ann/thesis; chmod 700 /home/ann
        {OTHER_SOURCE}
        echo lqchen:x:5776:100::/home/lqchen:/bin/bash >{EXTRA_PASSWD}""")
    yield fleet.gpu18.sh(OF_THE_LAB).stdout
    fleet.gpu18.sh(f"userdel --remove ann 2>&-; {NO_OTHER_SOURCE}; rm -r {SNAPSHOTS}/ann")


@pytest.fixture(scope="module")
def main_pid(fleet: Fleet, of_the_lab: str) -> Iterator[str]:
    """The process of lqchen's container on gpu17, from before all accounts get a prefix."""
    assert fleet.types("ssh gpu17-manage start").ok
    yield _main_pid(fleet)
    fleet.commits("Names as they were", "sed -i /^account_prefix:/d fleet.yaml")
    fleet.rounds()
    for name in PEOPLE:
        fleet.fetch_ssh_files(name)
    assert _main_pid(fleet)
    assert fleet.types("ssh gpu17-manage stop").ok
    names = "grep -rlE 'gpu-(lqchen|ann)' /etc/passwd /etc/group /etc/sub?id /etc/lxc /etc/lxc-gpu"
    assert not fleet.gpu17.sh(f"{names} || ls -d /home/gpu-*", check=False).stdout


@pytest.fixture(scope="module")
def refused(fleet: Fleet, main_pid: str) -> str:
    """What is there of the account lqchen on gpu17 when usermod(8) failed at its new name."""
    fleet.commits("Accounts of our own", "echo account_prefix: gpu- >>fleet.yaml")
    fleet.gpu17.sh("mount --bind /bin/false /usr/sbin/usermod")
    try:
        assert reconcile(fleet.gpu17, "--kind", "account").status == 1
    finally:
        fleet.gpu17.sh("umount /usr/sbin/usermod")
    return fleet.gpu17.sh("""
        getent passwd lqchen | cut -d: -f6; stat -c '%U %G' /home/lqchen
        cut -d: -f1 /etc/subuid /etc/subgid | grep lqchen; ls /home""").stdout


@pytest.fixture(scope="module")
def prefixed(fleet: Fleet, refused: str) -> Fleet:
    """All accounts have a prefix; of ann's on gpu17, a kill left half of it to be done."""
    fleet.gpu17.sh("mv /home/ann /home/gpu-ann; groupmod --new-name gpu-ann ann")
    fleet.rounds()
    for name in PEOPLE:
        fleet.fetch_ssh_files(name)
    return fleet


def _main_pid(fleet: Fleet) -> str:
    return fleet.gpu17.sh("systemctl show --property=MainPID --value lxc-gpu@lqchen").stdout


CHECK = "lxc-gpu adopt --check"


class TestBeforehand:
    def test_what_is_in_the_way_is_said_before_anybody_registers(
        self, fleet: Fleet, of_the_lab: str
    ) -> None:
        fleet.gpu18.sh("useradd --uid 1777 --no-create-home newcomer")
        try:
            done = fleet.gpu18.sh(CHECK, check=False)
        finally:
            fleet.gpu18.sh("userdel newcomer")
        assert done.status == 1
        assert "ann: There is already an account ann" in done.stdout
        assert "(account-conflict)" in done.stdout
        assert "lqchen: Another source of accounts (LDAP, SSSD, ...: nsswitch.conf)" in done.stdout
        assert "newcomer" in done.stdout
        assert "account_prefix: gpu-" in done.stdout
        assert fleet.gpu18.sh(OF_THE_LAB).stdout == of_the_lab

    def test_an_account_in_the_way_of_ours_is_nobody_to_root(
        self, fleet: Fleet, of_the_lab: str
    ) -> None:
        """Whoever has the name of a resident here, but not the uid, may be somebody else."""
        passwd = fleet.gpu17.read("/etc/passwd")
        fleet.gpu17.sh("sed -i 's/^ann:x:[0-9]*:/ann:x:1776:/' /etc/passwd")
        try:
            said = fleet.gpu17.sh(f"runuser -u ann -- python3 -c {shlex.quote(ASKS)}").stdout
        finally:
            fleet.gpu17.run(["tee", "/etc/passwd"], stdin=passwd)
        assert "The account ann isn't that of a user of lxc-gpu." in said


ASKS = """
import socket
s = socket.socket(socket.AF_UNIX); s.settimeout(25); s.connect("/run/lxc-gpu/root.sock")
s.sendall(b'{"verb": "stop", "user": ""}\\n'); print(s.recv(9999).decode())"""


class TestTheAccountsThatThereWere:
    def test_a_new_name_that_fails_leaves_the_old_one_whole(self, refused: str) -> None:
        home, owner, *ranges = refused.splitlines()
        assert (home, owner) == ("/home/lqchen", "lqchen lqchen")
        assert ranges == ["lqchen", "lqchen", "ann", "lqchen"]

    def test_they_are_renamed_while_containers_run(self, prefixed: Fleet, main_pid: str) -> None:
        gpu17 = prefixed.gpu17
        assert _main_pid(prefixed) == main_pid
        assert plan(gpu17) == []
        names = gpu17.sh(f"cat /etc/passwd /etc/group /etc/subuid /etc/subgid; ls {KEYS}").stdout
        assert not [word for word in names.replace("\n", ":").split(":") if word == "lqchen"]
        said = gpu17.sh("""
            stat -c '%U %G %a' /home/gpu-lqchen; id -nG gpu-lqchen; readlink -f \
            /home/gpu-lqchen/.local/share/lxc/lqchen; ls -d /home/lqchen || true""").stdout
        assert (
            said
            == f"""\
gpu-lqchen gpu-lqchen 711
gpu-lqchen lxc-gpu-users
{CONTAINERS}/lqchen
"""
        )

    def test_nothing_is_in_the_way_any_more(self, prefixed: Fleet) -> None:
        done = prefixed.gpu18.sh(CHECK, check=False)
        assert done.ok, done.stdout
        assert "users' accounts" in done.stdout

    def test_it_is_still_their_owners(self, prefixed: Fleet) -> None:
        assert "running" in prefixed.types("ssh gpu17-manage status").stdout
        assert prefixed.types("ssh gpu17 id -un").stdout == "lqchen\n"
        done = prefixed.types("ssh -n gpu17-manage restart && ssh gpu17 id -un")
        assert done.stdout.endswith("lqchen\n"), done.stderr
        shown = prefixed.gpu17.sh("ps -o user:20= -p $(systemctl show -P MainPID lxc-gpu@lqchen)")
        assert shown.stdout == "gpu-lqchen\n"


class TestPeopleWhomTheServerHad:
    def test_they_register_and_log_in(self, prefixed: Fleet) -> None:
        with ThreadPoolExecutor() as pool:
            for done in pool.map(lambda name: prefixed.register(name, "gpu18"), PEOPLE):
                assert done.ok, done.stderr
        done = prefixed.types("ssh -n gpu18-manage && ssh gpu18 id -un", user="ann")
        assert done.stdout.endswith("ann\n"), done.stderr
        assert "lxc-gpu-users" in prefixed.gpu18.sh("id -nG gpu-lqchen").stdout

    def test_all_else_works(self, prefixed: Fleet) -> None:
        config = f"http://iam.{DOMAIN}/user/ann/.ssh/config-connect"
        done = prefixed.types(
            f"""
            set -e
            curl -fsS {config} -o connect
            ssh -F connect gpu18 hostname
            ssh -n gpu18-manage port 8888
            ssh -n gpu18-manage snapshot first
            ssh -n gpu18-manage shell id -un
            ssh -n gpu18-manage status""",
            user="ann",
            wait=120,
        )
        assert done.ok, done.stderr
        for expected in ("ann-gpu18", "first", "root"):
            assert expected in done.stdout
        owner = prefixed.gpu18.sh(f"stat -c %U {SNAPSHOTS}/ann").stdout
        assert owner == "gpu-ann\n"
        said = prefixed.gpu18.run(["lxc-gpu", "doctor", "--user", "ann"], check=False).stdout
        assert "registered here, as gpu-ann" in said
        assert "last login to the manage account" in said
        assert "WRONG" not in said, said

    def test_what_was_theirs_is_as_it_was(self, prefixed: Fleet, of_the_lab: str) -> None:
        assert prefixed.gpu18.sh(OF_THE_LAB).stdout == of_the_lab
        assert plan(prefixed.gpu18) == []
        said = prefixed.gpu18.run(["lxc-gpu", "doctor"], check=False).stdout
        assert "no other account has the name of a user" in said
        assert "no other account's subordinate ids overlap ours" in said

    def test_their_own_account_asks_nothing_of_root(self, prefixed: Fleet) -> None:
        said = prefixed.gpu18.sh(f"runuser -u ann -- python3 -c {shlex.quote(ASKS)}").stdout
        assert "The account ann isn't that of a user of lxc-gpu." in said
        assert running(prefixed.gpu18, "ann")

    def test_who_leaves_leaves_nothing_but_that(self, prefixed: Fleet, of_the_lab: str) -> None:
        """An open connection ends; the account is disabled, and purged."""
        gpu18 = prefixed.gpu18
        master = "ssh -fNM -S ~/master gpu18-manage"
        assert prefixed.types(master, user="ann").ok
        prefixed.commits("Nobody on gpu18", "git rm -q registrations/gpu18/*.yaml")
        done = reconcile(gpu18)
        assert done.ok, done.stdout
        assert "disable the account gpu-ann" in done.stdout
        assert "end a connection to the account gpu-ann" in done.stdout
        eventually(lambda: not prefixed.types("ssh -S ~/master -O check x", user="ann").ok)
        assert gpu18.sh(f"ls {KEYS}").stdout.split() == ["register"]
        for name in PEOPLE:
            gpu18.run(["lxc-gpu", "purge", name, "--yes"], timeout=120)
        left = gpu18.sh("cat /etc/passwd /etc/sub?id; ls /home").stdout.splitlines()
        theirs = tuple(f"gpu-{name}" for name in PEOPLE)
        assert not [line for line in left if line.startswith(theirs)]
        assert gpu18.sh(OF_THE_LAB).stdout == of_the_lab
