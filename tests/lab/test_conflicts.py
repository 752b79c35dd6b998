"""Accounts, groups and homes that aren't ours: never taken, never touched, named with a cure."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from laboratory.hosts import Host

from tests.lab.archives import small_template
from tests.lab.fleet import (
    CONTAINERS,
    EXTRA_PASSWD,
    NO_OTHER_SOURCE,
    OTHER_SOURCE,
    Fleet,
    plan,
    reconcile,
    system_of,
)


@pytest.fixture(scope="module")
def small_containers(fleet: Fleet) -> Iterator[None]:
    """What is made on gpu18 meanwhile is small."""
    with small_template(fleet.gpu18):
        yield


@pytest.fixture
def newcomer(fleet: Fleet, small_containers: None) -> Iterator[str]:
    """Carol, whom the state wants on gpu18, together with ann; nobody there knows them yet."""
    name, number = "carol", 777
    fleet.commits(f"{name} and ann on gpu18", f"""
        mkdir -p registrations/gpu18
        test ! -e former/{name}.yaml || git mv former/{name}.yaml users/
        test -e users/{name}.yaml || printf 'name: Carol\\nlogin: carol\\nuid: {20000 + number}\\n'\
'port: {22000 + number}\\nsubid: {fleet.first_subid() + number * 262_144}\\n' >users/{name}.yaml
        key=$(cut -d' ' -f1,2 /etc/ssh/ssh_host_ed25519_key.pub)
        test -e registrations/gpu18/ann.yaml ||
            echo "host_key: $key" >registrations/gpu18/ann.yaml
        echo "host_key: $key" >registrations/gpu18/{name}.yaml""")  # fmt: skip
    yield name
    fleet.commits("Nobody on gpu18", f"""
        mkdir -p former
        git rm -q registrations/gpu18/*.yaml
        git mv users/{name}.yaml former/""")  # fmt: skip
    assert reconcile(fleet.gpu18).ok
    fleet.gpu18.sh(f"""
        for name in ann {name}; do
            userdel $name || true
            rm -rf {CONTAINERS}/$name /home/$name /var/lib/lxc-gpu/*/$name
            sed -i /^$name:/d /etc/subuid /etc/subgid
        done""")


def test_account_that_is_not_ours_is_never_touched(fleet: Fleet, newcomer: str) -> None:
    gpu18 = fleet.gpu18
    # a number of its own: useradd would take the next one, which may be ann's
    gpu18.sh(f"useradd --uid 5776 --create-home --shell /bin/bash {newcomer}")
    before = gpu18.sh(f"grep ^{newcomer}: /etc/passwd /etc/shadow /etc/subuid; "
                      f"stat -c '%a %u' /home/{newcomer}").stdout  # fmt: skip
    hint = f"usermod --login ANOTHER {newcomer}"
    assert any("isn't lxc-gpu's" in line for line in plan(gpu18))
    done = reconcile(gpu18)
    assert done.status == 1
    assert f"FAILED account {newcomer}: There is already an account {newcomer}" in done.stdout
    assert hint in done.stdout
    assert "NOT converged" in done.stdout
    after = gpu18.sh(f"grep ^{newcomer}: /etc/passwd /etc/shadow /etc/subuid; "
                     f"stat -c '%a %u' /home/{newcomer}; ").stdout  # fmt: skip
    assert after == before
    assert gpu18.sh(f"ls -A {CONTAINERS}/{newcomer} 2>&- || true").stdout == ""
    assert gpu18.run(["id", "ann"]).ok
    assert gpu18.run(["test", "-d", f"{system_of(gpu18, 'ann')}/etc"]).ok
    assert reconcile(gpu18).status == 1, "it stays a failure until somebody acts"


def test_uid_that_is_taken_is_never_shared(fleet: Fleet, newcomer: str) -> None:
    gpu18 = fleet.gpu18
    gpu18.sh("useradd --uid 20777 somebody")
    try:
        done = reconcile(gpu18)
        assert done.status == 1
        assert f"{newcomer} should get the uid 20777, which somebody has" in done.stdout
        assert "widen or move `uids:` in fleet.yaml" in done.stdout
        assert not gpu18.run(["id", newcomer], check=False).ok
        assert gpu18.run(["id", "-un", "20777"]).stdout == "somebody\n"
        assert gpu18.run(["id", "ann"]).ok
    finally:
        gpu18.sh("userdel --remove somebody 2>&-")
    done = reconcile(gpu18)
    assert done.ok, done.stdout
    assert gpu18.run(["id", "-u", newcomer]).stdout == "20777\n"


def test_what_only_another_source_of_accounts_has_is_not_taken(fleet: Fleet, newcomer: str) -> None:
    gpu18, entry = fleet.gpu18, "{}:x:{}:100::/:/bin/sh"
    gpu18.sh(OTHER_SOURCE)
    try:
        gpu18.sh(f"echo '{entry.format('somebody', 20777)}' >{EXTRA_PASSWD}")
        done = reconcile(gpu18)
        assert f"{newcomer} should get the uid 20777, which somebody has" in done.stdout
        gpu18.sh(f"echo '{entry.format(newcomer, 5777)}' >{EXTRA_PASSWD}")
        done = reconcile(gpu18)
        assert f"has an account {newcomer}, uid 5777" in done.stdout
        assert "filter_users" in done.stdout
        assert "usermod" not in done.stdout, "it would succeed, and cure nothing"
        assert f"{newcomer}:" not in gpu18.read("/etc/passwd")
        said = gpu18.run(["lxc-gpu", "doctor"], check=False).stdout
        assert f"{newcomer} is also another source" in said
        assert "wrong MAC" not in said, "one conflict, one message"
    finally:
        gpu18.sh(NO_OTHER_SOURCE)
    assert reconcile(gpu18).ok


def test_group_that_is_not_ours_is_never_joined(fleet: Fleet, newcomer: str) -> None:
    gpu18 = fleet.gpu18
    gpu18.sh(f"groupadd --gid 5777 {newcomer}; usermod -aG {newcomer} daemon")
    try:
        done = reconcile(gpu18)
        assert done.status == 1
        assert f"There is already a group {newcomer} (gid 5777)" in done.stdout
        assert "groupmod --new-name" in done.stdout
        group = gpu18.sh(f"getent group {newcomer}").stdout
        assert group == f"{newcomer}:x:5777:daemon\n"
        assert not gpu18.run(["id", newcomer], check=False).ok
        assert gpu18.run(["id", "ann"]).ok
    finally:
        gpu18.sh(f"groupdel {newcomer}")
    done = reconcile(gpu18)
    assert done.ok, done.stdout
    assert gpu18.run(["id", "-g", newcomer]).stdout == "20777\n"


@pytest.mark.parametrize(
    ("there", "said", "cure"),
    [
        ("install -d -o 6666 -m 700 /home/carol; echo x >/home/carol/theirs",
         "is a folder of uid 6666, not of uid 20777", "chown -hR 20777:20777 /home/carol"),
        ("ln -s /root /home/carol", "is not a folder", "mv /home/carol /home/carol.other"),
    ],
    ids=["folder", "link"],
)  # fmt: skip
def test_a_home_that_is_not_the_users_is_never_taken(
    fleet: Fleet, newcomer: str, there: str, said: str, cure: str
) -> None:
    gpu18 = fleet.gpu18
    look = "stat -c '%a %u %g %F' /home/carol /root"
    before = gpu18.sh(f"{there}; {look}").stdout
    try:
        done = reconcile(gpu18)
        assert done.status == 1
        assert f"FAILED account carol: /home/carol, where the home of carol belongs, {said}" in (
            done.stdout
        )
        assert done.stdout.count("FAILED") == 1
        assert f"`{cure}`" in done.stdout
        assert gpu18.sh(look).stdout == before
        assert not gpu18.run(["id", newcomer], check=False).ok, "nothing is made of theirs"
        gpu18.sh(cure)
        done = reconcile(gpu18)
        assert done.ok, done.stdout
        assert gpu18.sh("stat -c '%a %u %g' /home/carol").stdout == "711 20777 20777\n"
    finally:
        gpu18.sh("rm -rf /home/carol.other")


def test_the_home_of_somebody_who_returns_keeps_what_is_in_it(fleet: Fleet, newcomer: str) -> None:
    fleet.gpu18.sh("install -d -o 20777 -m 755 /home/carol; echo mine >/home/carol/file")
    assert reconcile(fleet.gpu18).ok
    assert fleet.gpu18.sh("stat -c '%a %u %g' /home/carol; cat /home/carol/file").stdout == (
        "711 20777 20777\nmine\n"
    )


def test_a_systems_account_in_our_group_is_never_disabled(converged: Host) -> None:
    before = converged.read("/etc/shadow")
    converged.sh("for name in root games; do gpasswd -a $name lxc-gpu-users; done")
    try:
        done = reconcile(converged)
        assert done.status == 1
        for name in ("root (uid 0)", "games (uid 5)"):
            assert f"{name} is in the group lxc-gpu-users" in done.stdout
        assert "gpasswd --delete root lxc-gpu-users" in done.stdout
        assert converged.read("/etc/shadow") == before
    finally:
        converged.sh("for name in root games; do gpasswd -d $name lxc-gpu-users; done")
    assert reconcile(converged).ok
