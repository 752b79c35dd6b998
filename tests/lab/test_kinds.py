"""Every kind of thing on a server: what drifts is named by the plan and healed by a round."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest
from laboratory.hosts import Host

from reconciler.rounds.order import KINDS
from state.wire.messages import decode
from tests.lab.archives import small_template
from tests.lab.fleet import (
    BARE,
    CONTAINERS,
    EXTRA_PASSWD,
    KEYS,
    NO_OTHER_SOURCE,
    OTHER_SOURCE,
    WATCHED,
    Fleet,
    at_work_on,
    end_at_once,
    in_container,
    plan,
    reconcile,
    running,
    system_of,
)
from tests.patience import eventually

READS_RULES = """
import os
from reconciler.host import places
from reconciler.network import iptables, nft
from reconciler.network.filters import table
from reconciler.network.generation import generation
from state import command

places.RULES_COMPARED = places.RUN / "rules-of-a-test"
asked = []
run = command.run
command.run = lambda words, **more: asked.append(words[0]) or run(words, **more)
add = ["iptables", "-t", "nat", "-A", "POSTROUTING", "-j", "ACCEPT"]

run(["iptables", "-t", "nat", "-N", "OURS"])
first = generation()
table = table("10.77.0.1")
nft.replace_table(table)
asked.clear()
assert (nft.found(table), nft.found(table)) == (table, table)
assert asked == ["nft", "unshare"], asked
run(["nft", "add", "chain", "bridge", "lxc-gpu", "another"])
assert nft.found(table) != table
asked.clear()
assert "-j ACCEPT" not in iptables.read("nat").chains.get("POSTROUTING", ())
iptables.read("filter"), iptables.read("nat")
assert asked == ["iptables-save"], asked
run(add)
assert generation() > first
assert "-j ACCEPT" in iptables.read("nat").chains["POSTROUTING"]
assert asked == ["iptables-save"] * 2, asked
run(["iptables", "-t", "nat", "-F", "POSTROUTING"])
iptables.remember(60)
asked.clear()
if child := os.fork():  # as the root helper's do, which is loaded
    assert os.waitpid(child, 0)[1] == 0
else:
    assert "-j ACCEPT" not in iptables.read("nat").chains["POSTROUTING"]
    assert not asked, asked
    run(add)
    assert "-j ACCEPT" in iptables.read("nat").chains["POSTROUTING"]
    os._exit(asked != ["iptables-save"])
"""
"""What the kinds of `traffic` ask of nftables, in a network namespace of its own."""
TEMPLATES = "/var/lib/lxc-gpu/templates"
IN_HOME = f"{CONTAINERS}/lqchen/rootfs/system/home/lqchen"
SSH = f"{IN_HOME}/.ssh"


@dataclass(frozen=True)
class Drift:
    """What somebody does to a server, and how the plan calls it."""

    kind: str
    thing: str
    """What of that kind it is done to. Drifts of different things are made and healed together."""
    done: str
    planned: str

    def is_in(self, line: str) -> bool:
        """Whether a line of a plan or of a report, `KIND: WORDS`, is about this."""
        kind, _, words = line.partition(": ")
        return kind == self.kind and self.planned in words


LQCHENS_LIMITS = "/etc/systemd/system/lxc-gpu@lqchen.service.d"
ALL_UNITS = "/etc/systemd/system/lxc-gpu@.service.d"
MALLORYS_LIMITS = "/etc/systemd/system/lxc-gpu@mallory.service.d"
DRIFTS = (
    Drift("authorized_keys", "lqchen", f"echo 'ssh-ed25519 AAAA intruder' >>{KEYS}/lqchen",
          "lqchen logs in with 1 key"),
    Drift("authorized_keys", "mallory", f"cp {KEYS}/lqchen {KEYS}/mallory",
          "mallory no longer logs in"),
    Drift("authorized_keys", "lqchen", f"rm {KEYS}/lqchen", "lqchen logs in with 1 key"),
    Drift("register_keys", "intruder", f"echo 'ssh-ed25519 AAAA intruder' >>{KEYS}/register",
          "ssh-ed25519 AAAA intruder may no longer register"),
    Drift("register_keys", "lqchen", f"sed -i '/register lqchen\"/d' {KEYS}/register",
          "lqchen may register with 1 key"),
    Drift("account", "lqchen", "usermod --shell /bin/bash lqchen",
          "change the account lqchen: shell /bin/bash -> /usr/local/lib/lxc-gpu/login-shell"),
    Drift("account", "lqchen", "usermod --expiredate 1 lqchen",
          "change the account lqchen: enabled False -> True"),
    Drift("account", "lqchen", "usermod --comment 'Somebody Else' lqchen",
          "change the account lqchen: full_name Somebody Else -> Lequn Chen"),
    Drift("account", "lqchen", "chmod 777 /home/lqchen",
          "change the account lqchen: home_ready False -> True"),
    Drift("subids", "lqchen", "sed -i /^lqchen:/d /etc/subuid",
          "give lqchen the subordinate ids"),
    Drift("subids", "lqchen", "echo lqchen:5000000:65536 >>/etc/subgid",
          "give lqchen the subordinate ids"),
    Drift("usernet", "lqchen", "sed -i /^lqchen/d /etc/lxc/lxc-usernet",
          "let lqchen plug a container into lxcgpu0"),
    Drift("usernet", "mallory", "echo 'mallory veth lxcgpu0 9' >>/etc/lxc/lxc-usernet",
          "no longer let mallory plug a container into lxcgpu0"),
    Drift("network", "bridge", "ip address flush dev lxcgpu0",
          "set bridge: 10.77.0.1/16 02:00:0a:4d:00:01 up"),
    Drift("network", "bridge", "ip link set lxcgpu0 down",
          "set bridge: 10.77.0.1/16 02:00:0a:4d:00:01 up"),
    Drift("network", "bridge", "ip link set lxcgpu0 address 02:00:00:00:00:07",
          "set bridge: 10.77.0.1/16 02:00:0a:4d:00:01 up"),
    Drift("network", "settings", "echo 0 >/proc/sys/net/ipv4/conf/lxcgpu0/proxy_arp_pvlan",
          "proxy_arp_pvlan=1"),
    Drift("network", "settings", "echo 0 >/sys/class/net/lxcgpu0/bridge/no_linklocal_learn",
          "no_linklocal_learn=1"),
    Drift("network", "table", "nft insert rule bridge lxc-gpu leaving accept",
          "load the nftables table bridge lxc-gpu"),
    Drift("network", "table", "nft flush chain bridge lxc-gpu between",
          "load the nftables table bridge lxc-gpu"),
    Drift("network", "our chain", "iptables -I LXC-GPU-INPUT -j RETURN",
          "set filter LXC-GPU-INPUT: "),
    Drift("network", "INPUT", "iptables -I INPUT -j ACCEPT",
          "set filter INPUT hook: -j LXC-GPU-INPUT"),
    Drift("network", "forwarding", "echo 0 >/proc/sys/net/ipv4/ip_forward", "set forwarding: on"),
    Drift("network", "SNAT", "iptables -t nat -F LXC-GPU-SNAT",
          "set nat LXC-GPU-SNAT: -s 10.77.0.0/16"),
    Drift("network", "FORWARD", "iptables -I FORWARD -j DROP",
          "set filter FORWARD hook: -j LXC-GPU-FORWARD"),
    Drift("network", "OUTPUT", "iptables -t nat -D OUTPUT -j LXC-GPU-DNAT",
          "set nat OUTPUT hook: -j LXC-GPU-DNAT"),
    Drift("identity", "veth*", "nft add element bridge lxc-gpu identities "
          "'{ \"veth*\" . 02:00:0a:4d:00:09 . 10.77.0.9 }'", "no longer let \"veth*\" . 02:00:"),
    Drift("identity", "lqchen", "nft list table bridge lxc-gpu | sed '/\"lqchen\"/s/10.77.0.[0-9]*/"
          "10.77.0.9/' >/tmp/drift; nft delete table bridge lxc-gpu; nft -f /tmp/drift",
          "let lqchen speak on the bridge as \"veth"),
    Drift("port_map", "lqchen", "iptables-save -t nat | sed /lqchen/d | iptables-restore",
          "to lqchen's container (10.77.0."),
    Drift("port_map", "lqchen", "iptables-save -t nat | sed '/lqchen/s/--to-destination [0-9.]*/"
          "--to-destination 10.77.9.9/' | iptables-restore", "to lqchen's container (10.77.0."),
    Drift("port_map", "99", "iptables -t nat -A LXC-GPU-DNAT -p tcp --dport 99 -j DNAT "
          "--to-destination 10.77.0.2:22", "take away the mapping of -p tcp -m tcp --dport 99"),
    Drift("bridge_port", "lqchen", "for p in /sys/class/net/veth$(id -u lqchen)_*; do "
          "echo 0 >$p/brport/hairpin_mode; done", "let lqchen's container reach its own"),
    Drift("bridge_port", "lqchen", "for p in /sys/class/net/veth$(id -u lqchen)_*; do "
          "ip link set ${p##*/} nomaster; done", "put the port of lqchen's container"),
    Drift("forward", "lqchen", "iptables -t nat -A LXC-GPU-DNAT -d 172.16.2.17/32 -p udp -m comment"
          " --comment lxc-gpu:lqchen -m udp --dport 26000 -j DNAT --to-destination 10.77.0.2:22",
          "take away the forwards of lqchen"),
    Drift("limits", "mallory", f"cp -r {LQCHENS_LIMITS} {MALLORYS_LIMITS}; systemctl daemon-reload",
          "give mallory's container the default limits"),
    Drift("limits", "lqchen", f"rm {LQCHENS_LIMITS}/50-lxc-gpu-limits.conf",
          "limit lqchen's container: 4.0 GiB of memory"),
    Drift("limits", "lqchen", f"sed -i s/=4294967296/=1G/ {LQCHENS_LIMITS}/*; "
          "systemctl daemon-reload", "limit lqchen's container: 4.0 GiB of memory"),
    Drift("user_slice", "lqchen",
          "rm /etc/systemd/system/user-$(id -u lqchen).slice.d/50-lxc-gpu.conf",
          "limit what lqchen runs on the server itself"),
    Drift("user_slice", "ann",
          "sed -i s/=8G/=80G/ /etc/systemd/system/user-$(id -u ann).slice.d/50-lxc-gpu.conf",
          "limit what ann runs on the server itself"),
    Drift("unit_account", "units", f"mkdir {ALL_UNITS}; printf '[Service]\nUser=gpu-%%i\n' "
          f">{ALL_UNITS}/50-lxc-gpu-account.conf; systemctl daemon-reload",
          "run containers as the accounts USER"),
    Drift("mount", "srv", "mount -o remount,bind,dev /run/lxc-gpu/mounts/srv%drift",
          "let containers see /srv/drift (nodev)"),
    Drift("mount", "srv", "umount /run/lxc-gpu/mounts/srv%drift",  # hides the users' folders
          "let containers see /srv/drift (nodev)"),
    Drift("mount", "etc", "mkdir /run/lxc-gpu/mounts/etc; mount --bind /etc "
          "/run/lxc-gpu/mounts/etc", "let no container see /etc any more"),
    Drift("user_folder", "lqchen", "rmdir /srv/drift/lqchen",
          "give lqchen the folder /srv/drift/lqchen"),
    Drift("user_folder", "ann", "chmod 755 /srv/drift/ann", "give ann the folder /srv/drift/ann"),
    Drift("device", "lqchen", "mknod -m 666 /run/lxc-gpu/devices/lqchen/kmsg c 1 11",
          "take /dev/kmsg from lqchen's container"),
    Drift("device", "mallory", "mkdir /run/lxc-gpu/devices/mallory",
          "take all device files from mallory's container"),
    Drift("containers_folder", CONTAINERS, "rm /var/lib/lxc-gpu/containers.json",
          f"mark {CONTAINERS} as the folder of this server's containers"),
    Drift("container", "lqchen", f"sed -i '/BEGIN lxc-gpu/,/END lxc-gpu/d' {SSH}/authorized_keys",
          "update the container of lqchen: authorized_keys"),
    Drift("container", "lqchen",
          f"echo 'Host *' >{SSH}/lxc-gpu.config; rm {SSH}/lxc-gpu.known_hosts",
          "update the container of lqchen: lxc-gpu.config, lxc-gpu.known_hosts"),
    Drift("container", "lqchen", "rm /var/lib/lxc-gpu/made/lqchen",
          "update the container of lqchen: the note that it was made"),
)  # fmt: skip


def waves() -> list[list[Drift]]:
    """The drifts in their order, as few times as can be: of one thing, one drift at a time."""
    found: list[list[Drift]] = []
    for drift in DRIFTS:
        earlier = sum(
            (drift.kind, drift.thing) == (each.kind, each.thing) for wave in found for each in wave
        )
        if earlier == len(found):
            found.append([])
        found[earlier].append(drift)
    return found


ELSEWHERE = {
    "disk_quota": "tests/vm/test_quota.py",
    "cpu_set": "tests/lab/test_limits.py",
    "lxcfs": "tests/lab/test_limits.py",
    "connection": "tests/lab/test_revocation.py",
    "old_home": "tests/lab/test_old_homes.py",
}
"""Kinds whose drifts need more than a command: what the kernel of the lab's machines may lack
(project quotas), containers with limits that run, somebody who connects from outside, people whom
the server had before."""
SEEN = """
{drifts}
{{ {watched} }} >/tmp/before
lxc-gpu plan --json
{{ {watched} }} >/tmp/after
diff /tmp/before /tmp/after
lxc-gpu reconcile
"""
"""The plan must change nothing; the round must heal everything."""
HARMLESS = (
    "for rule in 'FORWARD -j DROP' 'INPUT -j ACCEPT'; do iptables -D $rule 2>&- || true; done"
)
"""Takes away what isn't ours and would stand in the way of the next tests."""


@pytest.fixture
def gpu17(fleet: Fleet) -> Iterator[Host]:
    """A server that is as it should be, and is made so again."""
    yield fleet.gpu17
    fleet.gpu17.sh(HARMLESS)
    done = reconcile(fleet.gpu17)
    assert done.ok, done.stdout + done.stderr


@pytest.fixture(scope="module")
def resources(fleet: Fleet) -> Iterator[None]:
    """A mount and a limit on gpu17."""
    fleet.gpu17.sh("install -d -m 0711 /srv/drift")
    fleet.commits(
        "A mount and a limit",
        """
        echo 'mounts: [{source: /srv/drift, target: /drift}]' >>servers/gpu17.yaml
        echo 'limits: {memory: 4G}' >>servers/gpu17.yaml""",
    )
    assert reconcile(fleet.gpu17).ok
    yield
    fleet.commits("Neither", "sed -i '/^mounts:/d; /^limits:/d' servers/gpu17.yaml")
    assert reconcile(fleet.gpu17).ok
    fleet.gpu17.sh("rm -r /srv/drift")


def test_every_kind_has_drifts() -> None:
    here = {kind.name for kind in KINDS if kind.name not in ELSEWHERE}
    assert {drift.kind for drift in DRIFTS} == here
    assert {kind.name for kind in KINDS} >= ELSEWHERE.keys()


@pytest.mark.parametrize("drifts", waves(), ids=lambda wave: f"{len(wave)} together")
def test_drifts_are_named_then_healed(
    resources: None, drifts: list[Drift], gpu17: Host, lqchen_is_up: None
) -> None:
    """Many at once, each in its words, nothing else with them, and none is left over."""
    script = SEEN.format(drifts="\n".join(each.done for each in drifts), watched=WATCHED)
    seen = gpu17.sh(script, timeout=120)
    planned, report = seen.stdout.split("\n", 1)
    lines = [f"{line['kind']}: {line['words']}" for line in json.loads(planned)["plan"]]
    assert [each for each in drifts if not any(map(each.is_in, lines))] == [], lines
    assert [line for line in lines if not any(each.is_in(line) for each in drifts)] == []
    assert len(lines) == len(drifts), lines
    healed = [line.strip() for line in report.splitlines()]
    assert [each for each in drifts if not any(map(each.is_in, healed))] == [], report
    assert ": converged at revision" in report
    assert plan(gpu17) == []


def test_a_stopped_container_is_healed_too(fleet: Fleet, gpu17: Host) -> None:
    end_at_once(gpu17, "lqchen")
    in_container(gpu17, "lqchen", "echo own >home/lqchen/.ssh/authorized_keys")
    assert plan(gpu17) == ["container: update the container of lqchen: authorized_keys"]
    assert reconcile(gpu17).ok
    assert not running(gpu17, "lqchen")
    text = gpu17.read(f"{SSH}/authorized_keys")
    assert text.startswith("own\n# BEGIN lxc-gpu"), "the user's own line stays, outside ours"
    assert fleet.types("ssh gpu17-manage").ok
    assert fleet.types("ssh gpu17 true").ok


def test_names_that_begin_alike_are_not_confused(fleet: Fleet, gpu17: Host) -> None:
    foreign = "chen:5000000:65536"
    for file in ("subuid", "subgid"):
        gpu17.sh(f"sed -i '1i {foreign}' /etc/{file}; sed -i /^lqchen:/d /etc/{file}")
    gpu17.sh("echo 'chen veth lxcbr0 3' >>/etc/lxc/lxc-usernet")
    try:
        assert reconcile(gpu17).ok
        assert gpu17.read("/etc/subuid").startswith(f"{foreign}\n")
        assert "chen veth lxcbr0 3\n" in gpu17.read("/etc/lxc/lxc-usernet")
    finally:
        gpu17.sh("sed -i /^chen/d /etc/subuid /etc/subgid /etc/lxc/lxc-usernet")


class TestWords:
    def test_plan_is_for_people(self, gpu17: Host) -> None:
        gpu17.sh("usermod --shell /bin/sh lqchen")
        done = gpu17.run(["lxc-gpu", "plan"])
        assert done.stdout.startswith("account  change the account lqchen: shell /bin/sh -> ")
        assert "1 change to revision" in done.stderr
        assert "`lxc-gpu reconcile` makes them." in done.stderr

    def test_reconcile_and_status_are_for_people_and_programs(self, gpu17: Host) -> None:
        gpu17.sh("usermod --shell /bin/sh lqchen")
        done = reconcile(gpu17)
        assert "gpu17: converged at revision " in done.stdout
        assert ", 1 change, " in done.stdout
        said = gpu17.run(["lxc-gpu", "status"]).stdout
        assert said.startswith(done.stdout)
        assert "The round ended " in said
        facts = json.loads(gpu17.run(["lxc-gpu", "status", "--json"]).stdout)
        assert facts["converged"] is True
        assert len(facts["changes"]) == 1
        messages = [decode(line) for line in reconcile(gpu17, "--json").stdout.splitlines()]
        assert [type(message).__name__ for message in messages] == ["Report"]

    def test_one_user_or_one_kind_alone(self, gpu17: Host) -> None:
        gpu17.sh(f"usermod --shell /bin/sh ann; rm {KEYS}/lqchen")
        assert reconcile(gpu17, "--user", "lqchen").ok
        assert [line.split()[0] for line in plan(gpu17)] == ["account:"]
        assert reconcile(gpu17, "--kind", "account").ok
        assert plan(gpu17) == []
        done = gpu17.run(["lxc-gpu", "plan", "--kind", "nonsense"], check=False)
        assert (done.status, done.stdout) == (1, "")
        assert "There is no kind nonsense." in done.stderr
        assert "authorized_keys, register_keys, connection, account" in done.stderr

    def test_only_root_may(self, gpu17: Host) -> None:
        for command in ("plan", "reconcile"):
            done = gpu17.run(["runuser", "-u", "nobody", "lxc-gpu", command], check=False)
            assert done.status == 1
            assert "Use sudo." in done.stderr


@pytest.fixture(scope="class")
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


class TestConflicts:
    def test_account_that_is_not_ours_is_never_touched(self, fleet: Fleet, newcomer: str) -> None:
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

    def test_uid_that_is_taken_is_never_shared(self, fleet: Fleet, newcomer: str) -> None:
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

    def test_what_only_another_source_of_accounts_has_is_not_taken(
        self, fleet: Fleet, newcomer: str
    ) -> None:
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

    def test_group_that_is_not_ours_is_never_joined(self, fleet: Fleet, newcomer: str) -> None:
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
        self, fleet: Fleet, newcomer: str, there: str, said: str, cure: str
    ) -> None:
        gpu18 = fleet.gpu18
        look = "stat -c '%a %u %g %F' /home/carol /root"
        before = gpu18.sh(f"{there}; {look}").stdout
        try:
            done = reconcile(gpu18)
            assert done.status == 1
            assert (
                f"FAILED account carol: /home/carol, where the home of carol belongs, {said}"
                in (done.stdout)
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

    def test_the_home_of_somebody_who_returns_keeps_what_is_in_it(
        self, fleet: Fleet, newcomer: str
    ) -> None:
        fleet.gpu18.sh("install -d -o 20777 -m 755 /home/carol; echo mine >/home/carol/file")
        assert reconcile(fleet.gpu18).ok
        assert fleet.gpu18.sh("stat -c '%a %u %g' /home/carol; cat /home/carol/file").stdout == (
            "711 20777 20777\nmine\n"
        )

    def test_a_systems_account_in_our_group_is_never_disabled(self, gpu17: Host) -> None:
        before = gpu17.read("/etc/shadow")
        gpu17.sh("for name in root games; do gpasswd -a $name lxc-gpu-users; done")
        try:
            done = reconcile(gpu17)
            assert done.status == 1
            for name in ("root (uid 0)", "games (uid 5)"):
                assert f"{name} is in the group lxc-gpu-users" in done.stdout
            assert "gpasswd --delete root lxc-gpu-users" in done.stdout
            assert gpu17.read("/etc/shadow") == before
        finally:
            gpu17.sh("for name in root games; do gpasswd -d $name lxc-gpu-users; done")
        assert reconcile(gpu17).ok


def test_a_template_that_is_missing_is_told_before_anybody_waits_for_it(gpu17: Host) -> None:
    gpu17.sh(f"mount -t tmpfs none {TEMPLATES}")
    try:
        done = reconcile(gpu17)
        assert done.status == 1
        assert "The template debian-12 is not on this server" in done.stdout
        assert "setup/template /var/lib/" in done.stdout
        assert reconcile(gpu17, "--user", "lqchen").ok, "whoever has a container needs none"
    finally:
        gpu17.sh(f"umount {TEMPLATES}")
    assert reconcile(gpu17).ok


class TestLeaving:
    def test_who_leaves_is_locked_out_and_loses_nothing(
        self, fleet: Fleet, gpu17: Host, lqchen_is_up: None
    ) -> None:
        assert fleet.types("ssh gpu17 'echo kept >file; echo mine >>~/.ssh/authorized_keys'").ok
        gpu17.sh("echo kept >/home/lqchen/file")
        fleet.commits("lqchen left", "mkdir -p former; git mv users/lqchen.yaml former/")
        try:
            assert any("disable the account lqchen" in line for line in plan(gpu17))
            done = reconcile(gpu17)
            assert done.ok, done.stdout
            assert "account: disable the account lqchen" in done.stdout
            assert "container: stop the container of lqchen and take the keys out" in done.stdout
            assert plan(gpu17) == []
            self._is_locked_out(fleet, gpu17)
            assert gpu17.read("/home/lqchen/file") == "kept\n"
            assert gpu17.read(f"{IN_HOME}/file") == "kept\n"
            assert gpu17.sh("grep -c ^lqchen: /etc/subuid").stdout == "1\n"
        finally:
            fleet.commits("lqchen is back", "git mv former/lqchen.yaml users/")
        assert reconcile(gpu17).ok
        assert fleet.types("ssh gpu17-manage").ok
        assert fleet.types("ssh gpu17 cat file").stdout == "kept\n"

    def _is_locked_out(self, fleet: Fleet, gpu17: Host) -> None:
        assert not running(gpu17, "lqchen")
        assert gpu17.run(["test", "-e", f"{KEYS}/lqchen"], check=False).status == 1
        assert "lqchen" not in gpu17.read(f"{KEYS}/register")
        assert gpu17.sh("getent shadow lqchen | cut -d: -f8").stdout == "1\n"
        assert "lqchen" not in gpu17.run(["iptables-save", "-t", "nat"]).stdout
        inside = gpu17.read(f"{SSH}/authorized_keys")
        assert "ssh-ed25519" not in inside
        assert "mine\n" in inside
        for line in ("ssh gpu17-manage", "ssh register@gpu17-manage lqchen", "ssh gpu17 true"):
            assert fleet.types(f"{line} 2>&1").status == 255, line

    def test_sessions_that_are_open_end(
        self, fleet: Fleet, gpu17: Host, lqchen_is_up: None
    ) -> None:
        """One into the container, one on the host that waits for its turn."""
        with ThreadPoolExecutor() as pool:
            try:
                with at_work_on(gpu17, "lqchen"):
                    inside = pool.submit(fleet.types, "ssh gpu17 'echo in; sleep 300'")
                    outside = pool.submit(fleet.types, "ssh gpu17-manage restart")
                    eventually(lambda: "lqchen" in gpu17.run(["loginctl", "list-users"]).stdout)
                    eventually(lambda: gpu17.sh("pgrep -u lqchen -f login-shell", check=False).ok)
                    fleet.commits("lqchen left", "mkdir -p former; git mv users/lqchen.yaml former")
                    round_ = pool.submit(reconcile, gpu17)
                    assert outside.result().status == 255
                    assert not round_.done(), "it still waits for the container's turn"
                    assert not gpu17.sh("pgrep -u lqchen -f login-shell", check=False).ok
                assert round_.result().ok
                ended = inside.result()
                assert (ended.status, ended.stdout) == (255, "in\n")
            finally:
                fleet.commits("lqchen is back", "git mv former/lqchen.yaml users/")
        assert reconcile(gpu17).ok
        assert fleet.types("ssh gpu17-manage").ok

    def test_who_hides_the_keys_is_stopped_all_the_same(
        self, fleet: Fleet, gpu17: Host, lqchen_is_up: None
    ) -> None:
        assert fleet.types("ssh gpu17 'cp -a .ssh ssh; rm .ssh/authorized_keys;"
                           " mkdir .ssh/authorized_keys'").ok  # fmt: skip
        fleet.commits("lqchen left", "mkdir -p former; git mv users/lqchen.yaml former/")
        try:
            assert reconcile(gpu17).ok
            assert not running(gpu17, "lqchen")
        finally:
            fleet.commits("lqchen is back", "git mv former/lqchen.yaml users/")
        in_container(gpu17, "lqchen", "cd home/lqchen; rm -r .ssh; mv ssh .ssh")
        assert reconcile(gpu17).ok

    def test_a_revocation_does_not_wait_for_work_on_a_container(
        self, fleet: Fleet, gpu17: Host
    ) -> None:
        """Somebody's container is being worked on; keys are put right before that ends."""
        gpu17.sh(f"""
            sed -i /ssh-ed25519/d {SSH}/authorized_keys
            echo 'ssh-ed25519 AAAA stranger' >>{KEYS}/ann""")
        with ThreadPoolExecutor() as pool:
            with at_work_on(gpu17, "lqchen"):
                waiting = pool.submit(reconcile, gpu17)
                eventually(lambda: "stranger" not in gpu17.read(f"{KEYS}/ann"))
                assert not waiting.done()
            assert waiting.result().ok
        assert plan(gpu17) == []


class TestByItself:
    HOOK = "INPUT -j LXC-GPU-INPUT"

    @pytest.fixture(autouse=True)
    def watched(self, gpu17: Host) -> Iterator[None]:
        gpu17.sh("systemctl start lxc-gpu-watch")
        eventually(lambda: plan(gpu17) == [])
        yield
        gpu17.sh("systemctl stop lxc-gpu-watch")

    def test_drift_is_noticed_and_healed_within_seconds(self, gpu17: Host) -> None:
        gpu17.sh("usermod --shell /bin/sh lqchen; iptables -t nat -F LXC-GPU-DNAT")
        eventually(lambda: plan(gpu17) == [], 20)

    def test_a_bridge_that_is_made_again_gets_its_ports_back_without_a_restart(
        self, fleet: Fleet, gpu17: Host, lqchen_is_up: None
    ) -> None:
        since = "ssh gpu17 stat -c %Z /proc/1"
        before = fleet.types(since)
        assert before.ok
        gpu17.sh("ip link delete lxcgpu0")
        eventually(lambda: plan(gpu17) == [])
        assert fleet.types(since).stdout == before.stdout

    @pytest.mark.usefixtures("round_that_hangs")
    def test_what_comes_back_is_healed_each_time_beside_a_round_that_hangs(
        self, gpu17: Host
    ) -> None:
        for _ in range(3):
            gpu17.sh(f"iptables -D {self.HOOK}; echo 'ssh-ed25519 AAAA intruder' >>{KEYS}/lqchen")
            eventually(lambda: "intruder" not in gpu17.read(f"{KEYS}/lqchen"))
            eventually(lambda: gpu17.sh(f"iptables -C {self.HOOK}", check=False).ok)
        drift = json.loads(gpu17.run(["lxc-gpu", "status", "--json"]).stdout)["drift"]
        for words in (f"network: set filter {self.HOOK.replace(' -j', ' hook: -j')}",
                      "authorized_keys: lqchen logs in with 1 key"):  # fmt: skip
            assert len([each for each in drift if each["words"] == words]) == 1, drift

    @pytest.fixture
    def round_that_hangs(self, watched: None, gpu17: Host) -> Iterator[None]:
        """It waits for the newest revision as long as the block goes on."""
        gpu17.sh("systemd-run -q --unit=at-fetch flock /run/lxc-gpu/locks/publish sleep infinity")
        eventually(lambda: not gpu17.sh("flock -n /run/lxc-gpu/locks/publish true", check=False).ok)
        with ThreadPoolExecutor() as pool:
            hanging = pool.submit(reconcile, gpu17)
            try:
                gpu17.sh("systemctl start --no-block lxc-gpu-reconcile")
                yield
                assert not hanging.done()
            finally:
                gpu17.sh("systemctl stop at-fetch")
            assert hanging.result().ok
        eventually(
            lambda: (
                not gpu17.sh(
                    "systemctl is-active lxc-gpu-reconcile", check=False
                ).stdout.startswith("activating")
            )
        )


class TestAdopted:
    """What the first release left of a container that runs: `setup/gpu-server` has it adopted."""

    MAC = "0a:11:22:33:44:55"
    LEFT = f"""
        main=$(systemctl show -P MainPID lxc-gpu@lqchen)
        inside=$(cut -d' ' -f1 /proc/$main/task/$main/children)
        nsenter --net=/proc/$inside/ns/net ip link set eth0 address {MAC}
        ip neigh flush dev lxcgpu0
        sed -i /hwaddr/d /run/lxc-gpu/lqchen.config
        rm /var/lib/lxc-gpu/running/lqchen
        sed -i '/"driver"/d' /var/lib/lxc-gpu/view.json
        """

    def test_it_stays_reached_and_comes_back(
        self, fleet: Fleet, gpu17: Host, lqchen_is_up: None
    ) -> None:
        since = fleet.types("ssh gpu17 stat -c %Z /proc/1").stdout
        gpu17.sh(self.LEFT)
        assert not fleet.types("ssh gpu17-manage status").ok
        assert gpu17.run(["lxc-gpu", "adopt"]).stdout.splitlines() == [
            "write the view as this release reads it",
            "note that the container of lqchen runs, to start it after a boot",
            f"let the container of lqchen keep the MAC {self.MAC} until its next start",
        ]
        assert gpu17.run(["lxc-gpu", "adopt"]).stdout == ""
        assert "gpu17: running" in fleet.types("ssh gpu17-manage status").stdout
        assert reconcile(gpu17).ok
        assert plan(gpu17) == []
        assert fleet.types("ssh gpu17 stat -c %Z /proc/1").stdout == since
        assert self.MAC in gpu17.run(["nft", "list", "table", "bridge", "lxc-gpu"]).stdout
        assert fleet.types("ssh gpu17-manage restart").ok
        assert plan(gpu17) == []
        assert self.MAC not in gpu17.run(["nft", "list", "table", "bridge", "lxc-gpu"]).stdout
        assert fleet.types("ssh gpu17 true").ok

    def test_another_ones_mac_is_not(self, fleet: Fleet, gpu17: Host, lqchen_is_up: None) -> None:
        hers = gpu17.sh("nft list set bridge lxc-gpu identities | tr , '\\n' | "
                        "sed -n 's/.*\\(02:00:[0-9a-f:]*\\).*comment \"ann\".*/\\1/p'")  # fmt: skip
        assert hers.stdout.startswith("02:00:")
        gpu17.sh(self.LEFT.replace(self.MAC, hers.stdout.strip()))
        assert "MAC" not in gpu17.run(["lxc-gpu", "adopt"]).stdout
        assert fleet.types("ssh gpu17-manage restart").ok
        assert plan(gpu17) == []


class TestRoundsAtOnce:
    def test_a_newer_revision_wins(self, fleet: Fleet, gpu17: Host) -> None:
        """A round is under way when a commit comes, and a second round: the newer state stays."""
        file = "users/ann.yaml"
        gpu17.sh(f"echo x >>{KEYS}/lqchen; usermod --shell /bin/sh lqchen")
        with ThreadPoolExecutor() as pool:
            older = pool.submit(reconcile, gpu17)
            fleet.commits("Another name", f"sed -i 's/^name:.*/name: Annette/' {file}")
            try:
                assert reconcile(gpu17).ok
                assert older.result().ok
                assert plan(gpu17) == []
                assert "Annette" in gpu17.sh("getent passwd ann").stdout
            finally:
                fleet.commits("As before", f"sed -i 's/^name:.*/name: Ann Example/' {file}")
                fleet.rounds()

    def test_the_timers_unit_is_a_round_like_any_other(self, fleet: Fleet, gpu17: Host) -> None:
        gpu17.sh(f"rm {KEYS}/lqchen")
        gpu17.run(["systemctl", "start", "lxc-gpu-reconcile.service"])
        eventually(lambda: plan(gpu17) == [])
        tip = fleet.iam.sh(f"git -c safe.directory='*' -C {BARE} rev-parse main").stdout.strip()
        facts = json.loads(gpu17.run(["lxc-gpu", "status", "--json"]).stdout)
        assert facts["revision"] == tip


def test_rules_are_read_again_once_they_changed_and_not_before(gpu17: Host) -> None:
    alone = ["unshare", "--net", "/opt/lxc-gpu/bin/python", "-c", READS_RULES]
    assert gpu17.run(alone, check=False).stderr == ""
    gpu17.run(["rm", "/run/lxc-gpu/rules-of-a-test"])
