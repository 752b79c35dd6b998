"""The life of the state: keys come and go, sysadmins push, revert, suspend, purge, and brake."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest
from laboratory.directory.people import ANN, STUDENTS, LabPerson
from laboratory.hosts import Host
from laboratory.wiring import CLONE

from tests.lab.fleet import (
    BARE,
    CONTAINERS,
    KEYS,
    Fleet,
    at_work_on,
    empty,
    plan,
    reconcile,
    running,
    system_of,
)
from tests.patience import eventually

SECOND = "/home/ann/.ssh/second"
REFUSED = 255
"""ssh's own exit status: it didn't get in."""


@pytest.fixture(scope="module", autouse=True)
def all_servers_know_all_in_the_end(fleet: Fleet) -> Iterator[None]:
    """The tests after these begin with nothing new to fetch."""
    yield
    fleet.rounds()


def _save(fleet: Fleet, keys: str, person: LabPerson = ANN) -> None:
    """Somebody, ann unless said, saves these keys on the page; the servers are nudged."""
    form = urlencode({"login": person.login, "password": person.password, "keys": keys}).encode()
    with urlopen(f"{fleet.lab.web_url.rstrip('/')}/user/{person.login}", form) as answer:
        assert "/save/" in answer.url


def _with_second(fleet: Fleet, where: str, what: str = "") -> int:
    """The status of ssh with the second key, and no other."""
    line = f"ssh -i {SECOND} -o IdentitiesOnly=yes -o IdentityAgent=none -o BatchMode=yes"
    return fleet.types(f"{line} -o IdentityFile={SECOND} {where} {what}", user="ann").status


@pytest.fixture(scope="class")
def second(fleet: Fleet) -> Iterator[tuple[str, str]]:
    """ann's first and second public key; only the first is saved, before and after."""
    laptop = fleet.laptop
    laptop.sh(
        f"rm -f {SECOND} {SECOND}.pub; ssh-keygen -q -t ed25519 -N '' -f {SECOND}", user="ann"
    )
    first = laptop.read("/home/ann/.ssh/id_ed25519.pub").strip()
    fleet.types("mv .ssh/id_ed25519 .ssh/id_first", user="ann")  # or ssh would offer it as well
    yield first, laptop.read(f"{SECOND}.pub").strip()
    fleet.types("mv .ssh/id_first .ssh/id_ed25519", user="ann")
    _save(fleet, first)


@pytest.mark.usefixtures("nudges")
class TestKeys:
    def test_a_second_key_works_everywhere_a_moment_later(
        self, fleet: Fleet, second: tuple[str, str]
    ) -> None:
        fleet.gpu17.sh("lxc-gpu reconcile >/dev/null")
        keys = f"{system_of(fleet.gpu17, 'ann')}/home/ann/.ssh/authorized_keys"
        fleet.gpu17.sh(f"echo '# my own line' >>{keys}")
        assert _with_second(fleet, "gpu17-manage", "status") == REFUSED
        _save(fleet, "\n".join(second))
        eventually(lambda: _with_second(fleet, "gpu17-manage", "status") == 0)
        eventually(lambda: _with_second(fleet, "gpu17-manage", "start") == 0)
        eventually(lambda: _with_second(fleet, "gpu17", "true") == 0)
        assert "# my own line\n" in fleet.gpu17.read(keys)

    def test_a_removed_key_stops_working_as_fast(
        self, fleet: Fleet, second: tuple[str, str]
    ) -> None:
        assert _with_second(fleet, "gpu17", "true") == 0
        _save(fleet, second[0])
        eventually(lambda: _with_second(fleet, "gpu17-manage", "status") == REFUSED)
        eventually(lambda: _with_second(fleet, "gpu17", "true") == REFUSED)
        eventually(lambda: _with_second(fleet, "register@gpu17-manage", "ann") == REFUSED)
        keys = f"{system_of(fleet.gpu17, 'ann')}/home/ann/.ssh/authorized_keys"
        assert "# my own line\n" in fleet.gpu17.read(keys)


class TestWaiting:
    def test_a_start_that_waited_brings_nothing_back_that_was_taken_away(
        self, fleet: Fleet
    ) -> None:
        """It goes by the state of the moment in which it begins, not in which it was asked for."""
        host = fleet.gpu17
        host.sh("systemctl stop lxc-gpu@ann")
        with ThreadPoolExecutor() as pool:
            with at_work_on(host, "ann"):
                asked = pool.submit(fleet.types, "ssh gpu17-manage start", user="ann")
                eventually(lambda: "waiting-ann" in host.sh("ls /run/lxc-gpu/locks").stdout)
                again = fleet.types("ssh gpu17-manage start", user="ann")
                assert "a request waits already" in again.stderr
                fleet.commits("ann left", "mkdir -p former; git mv users/ann.yaml former/")
                quick = ["authorized_keys", "register_keys", "account", "port_map", "forward"]
                host.run(["lxc-gpu", "reconcile", *[w for k in quick for w in ("--kind", k)]])
            done = asked.result()
        try:
            assert not done.ok
            assert not running(host, "ann")
            assert "lxc-gpu:ann" not in host.run(["iptables-save", "-t", "nat"]).stdout
        finally:
            fleet.commits("ann is back", "git mv former/ann.yaml users/")
            fleet.rounds()


class TestGit:
    def test_comments_survive_what_the_page_writes(self, fleet: Fleet) -> None:
        fleet.commits("A note", f"sed -i '1i # ann: guest until spring' {CLONE}/users/ann.yaml")
        keys = fleet.laptop.read("/home/ann/.ssh/id_ed25519.pub").strip()
        _save(fleet, keys.rsplit(" ", 1)[0] + " renamed@laptop")
        text = fleet.iam.sh(f"git -c safe.directory='*' -C {BARE} show main:users/ann.yaml").stdout
        assert text.startswith("# ann: guest until spring\n")
        assert "renamed@laptop" in text

    def test_an_invalid_push_is_refused_with_file_and_line(self, fleet: Fleet) -> None:
        done = fleet.laptop.sh(
            f"""
            cd {CLONE} && git fetch -q && git reset -q --hard origin/main
            echo 'shoe_size: 43' >>users/ann.yaml
            git commit -qam 'Note a size' && git push -q""",
            check=False,
        )
        fleet.laptop.sh(f"cd {CLONE} && git reset -q --hard origin/main")
        assert not done.ok
        assert "users/ann.yaml:" in done.stderr
        assert "shoe_size" in done.stderr

    def test_a_revert_undoes(self, fleet: Fleet) -> None:
        fleet.commits("Another name", f"sed -i 's/^name:.*/name: Annette/' {CLONE}/users/ann.yaml")
        assert any("full_name" in line for line in plan(fleet.gpu17))
        assert reconcile(fleet.gpu17).ok
        assert "Annette" in fleet.gpu17.sh("getent passwd ann").stdout
        fleet.commits("Undo", "git revert --no-edit HEAD >/dev/null")
        assert reconcile(fleet.gpu17).ok
        assert "Ann Example" in fleet.gpu17.sh("getent passwd ann").stdout


class TestRaces:
    @pytest.fixture
    def nobody_on_gpu18_afterwards(self, fleet: Fleet) -> Iterator[None]:
        yield
        empty(fleet, "gpu18")

    @pytest.mark.usefixtures("nobody_on_gpu18_afterwards")
    def test_saves_a_push_and_registrations_at_once_lose_nothing(self, fleet: Fleet) -> None:
        """Fifteen people on the page, a sysadmin with Git, two at `register`: all at one moment."""
        new = {
            person: fleet.laptop.sh(
                f"d=$(mktemp -d); ssh-keygen -q -t ed25519 -N '' -C {person.login} -f $d/k;"
                " cat $d/k.pub; rm -r $d"
            ).stdout
            for person in STUDENTS[:15]
        }
        with ThreadPoolExecutor(20) as pool:
            saves = [pool.submit(_save, fleet, key, person) for person, key in new.items()]
            pushed = pool.submit(fleet.commits_at_last, "A note", "echo '# a note' >>fleet.yaml")
            registered = [pool.submit(fleet.register, name, "gpu18") for name in ("lqchen", "ann")]
            for job in saves:
                job.result()
            pushed.result()
            answers = [job.result() for job in registered]
        assert all(done.ok for done in answers), [done.stderr for done in answers]
        files = fleet.laptop.sh(f"""
            cd {CLONE} && git fetch -q && git reset -q --hard origin/main
            cat users/*.yaml former/*.yaml 2>&- || true""").stdout
        for field in ("uid", "port", "subid"):
            numbers = re.findall(rf"^{field}: (\d+)", files, re.M)
            assert len(numbers) == len(set(numbers)) >= 15
        for key in new.values():
            assert key.split()[1] in files
        history = fleet.laptop.sh(f"cd {CLONE} && git log --format=%s").stdout
        assert all(f"new user {person.login} " in history for person in new)
        assert "A note" in history


class TestBrake:
    def test_too_many_at_once_are_not_disabled_until_an_admin_allows_it(self, fleet: Fleet) -> None:
        limit = "grep -q most_disabled fleet.yaml || echo 'most_disabled: 0' >>fleet.yaml"
        fleet.commits("Be careful", limit)
        fleet.rounds()
        leave = "mkdir -p former; git mv users/ann.yaml former/"
        fleet.commits("ann left", leave)
        try:
            done = reconcile(fleet.gpu17)
            assert not done.ok
            assert "This would disable 1 user at once (ann)" in done.stdout
            assert "Allow-Disable: 1" in done.stdout
            assert fleet.gpu17.sh("getent shadow ann | cut -d: -f8").stdout == "\n"
            fleet.laptop.sh(f"""
                cd {CLONE}
                git commit -q --allow-empty -m 'ann left, really' --trailer 'Allow-Disable: 1'
                git push -q""")
            assert reconcile(fleet.gpu17).ok
            assert fleet.gpu17.sh("getent shadow ann | cut -d: -f8").stdout == "1\n"
        finally:
            fleet.commits("ann is back", "git mv former/ann.yaml users/")
            fleet.commits("As before", "sed -i /most_disabled/d fleet.yaml")
            fleet.rounds()


class TestSuspension:
    def test_nothing_changes_until_resume_and_everybody_is_told(self, fleet: Fleet) -> None:
        host = fleet.gpu17
        host.run(["lxc-gpu", "suspend", "--reason", "a new disk"])
        try:
            host.sh(f"rm {KEYS}/ann")
            done = reconcile(host)
            assert "SUSPENDED" in done.stdout
            assert "a new disk" in done.stdout
            assert host.run(["test", "-e", f"{KEYS}/ann"], check=False).status == 1
            facts = json.loads(host.run(["lxc-gpu", "status", "--json"]).stdout)
            assert "a new disk" in facts["suspended"]
            planned = host.run(["lxc-gpu", "plan"]).stderr
            assert "SUSPENDED, so nothing is changed: a new disk (by" in planned
            assert "; `lxc-gpu resume` makes it." in planned
            refused = fleet.types("ssh register@gpu17-manage ann", user="ann")
            assert "is suspended" in refused.stderr
        finally:
            host.run(["lxc-gpu", "resume"], timeout=120)
        assert plan(host) == []
        assert host.run(["test", "-e", f"{KEYS}/ann"]).ok

    def test_a_round_that_runs_already_stops_before_its_next_change(self, fleet: Fleet) -> None:
        """The round waits for the lock, as it does for other work, while a sysadmin suspends."""
        host = fleet.gpu17
        try:
            done = host.sh(f"""
                exec 9>/run/lxc-gpu/locks/accounts
                flock 9
                rm {KEYS}/ann
                lxc-gpu reconcile 9>&- & round=$!
                for _ in $(seq 200); do  # until it stands in flock(2), 73 on x86-64
                    grep -qs '^73 ' /proc/$round/syscall && break
                    sleep 0.05
                done
                lxc-gpu suspend --reason 'smoke in the rack' 9>&-
                exec 9>&-
                wait $round || true""")
            assert "smoke in the rack" in done.stdout
            assert host.run(["test", "-e", f"{KEYS}/ann"], check=False).status == 1
        finally:
            host.run(["lxc-gpu", "resume"], timeout=120)
        assert plan(host) == []


class TestPurge:
    @pytest.fixture
    def gone(self, fleet: Fleet) -> Iterator[Host]:
        """gpu18, on which ann was registered, and isn't any more."""
        assert fleet.register("ann", "gpu18").ok
        fleet.commits("ann leaves gpu18", "git rm -q registrations/gpu18/ann.yaml")
        assert reconcile(fleet.gpu18).ok
        yield fleet.gpu18
        fleet.gpu18.sh("rm -f /root/ann.tar.zst")

    def test_it_deletes_only_after_saying_what_and_only_who_left(
        self, fleet: Fleet, gone: Host
    ) -> None:
        refused = fleet.gpu17.run(["lxc-gpu", "purge", "ann", "--yes"], check=False)
        assert not refused.ok
        assert "ann is still registered on gpu17" in refused.stderr
        asked = gone.run(["lxc-gpu", "purge", "ann"], check=False)
        assert not asked.ok
        assert f"{CONTAINERS}/ann" in asked.stderr
        assert "/home/ann" in asked.stderr
        assert gone.run(["test", "-d", f"{CONTAINERS}/ann"]).ok
        gone.run(
            ["lxc-gpu", "purge", "ann", "--yes", "--archive", "/root/ann.tar.zst"], timeout=120
        )
        packed = gone.sh("tar --list --zstd -f /root/ann.tar.zst | grep -c home/ann/.ssh").stdout
        assert int(packed) > 0
        assert gone.sh("stat -c %a /root/ann.tar.zst").stdout == "600\n"
        left = gone.sh(
            f"ls -d {CONTAINERS}/ann /home/ann 2>&- || true; id ann 2>&- || echo nobody"
        ).stdout
        assert left == "nobody\n"
        assert not running(gone, "ann")
        assert "There is nothing of ann" in gone.run(["lxc-gpu", "purge", "ann"]).stdout

    def test_what_a_kill_leaves_is_found_again(self, gone: Host) -> None:
        """strace(1) kills rm(1) when half of the container is gone."""
        gone.sh(f"mkdir -p {CONTAINERS}/ann/rootfs.before/etc")
        kill = "strace -f -qq -o /dev/null --trace=unlinkat --inject=unlinkat:signal=KILL:when=900"
        assert not gone.sh(f"{kill} lxc-gpu purge ann --yes", check=False, timeout=120).ok
        assert not gone.sh(f"ls -A {CONTAINERS} | grep trash", check=False).ok
        left = gone.sh(f"ls -A {CONTAINERS}/ann").stdout.split()
        assert left
        assert all(name.startswith(".trash-") for name in left), "half a system is none"
        asked = gone.run(["lxc-gpu", "purge", "ann"], check=False)
        assert f"{CONTAINERS}/ann" in asked.stderr
        assert gone.run(["lxc-gpu", "purge", "ann", "--yes"], timeout=120).ok
        assert not gone.run(["test", "-e", f"{CONTAINERS}/ann"], check=False).ok
