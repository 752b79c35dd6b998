"""Every kind of thing on a server: what drifts is named by the plan and healed by a round."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from laboratory.hosts import Host

from reconciler.rounds.order import KINDS
from state.wire.messages import decode
from tests.lab.fleet import (
    CONTAINERS,
    KEYS,
    SYSTEM,
    WATCHED,
    Fleet,
    end_at_once,
    in_container,
    plan,
    reconcile,
    running,
)

SSH = f"{SYSTEM}/home/lqchen/.ssh"


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
"""Takes away what of the drifts isn't ours and would stand in the way of the next tests."""


@pytest.fixture
def drifting(converged: Host) -> Iterator[Host]:
    """The same server, to which drifts are done; none is left afterwards."""
    yield converged
    converged.sh(HARMLESS)


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
    resources: None, drifts: list[Drift], drifting: Host, lqchen_is_up: None
) -> None:
    """Many at once, each in its words, nothing else with them, and none is left over."""
    script = SEEN.format(drifts="\n".join(each.done for each in drifts), watched=WATCHED)
    seen = drifting.sh(script, timeout=120)
    planned, report = seen.stdout.split("\n", 1)
    lines = [f"{line['kind']}: {line['words']}" for line in json.loads(planned)["plan"]]
    assert [each for each in drifts if not any(map(each.is_in, lines))] == [], lines
    assert [line for line in lines if not any(each.is_in(line) for each in drifts)] == []
    assert len(lines) == len(drifts), lines
    healed = [line.strip() for line in report.splitlines()]
    assert [each for each in drifts if not any(map(each.is_in, healed))] == [], report
    assert ": converged at revision" in report
    assert plan(drifting) == []


def test_a_stopped_container_is_healed_too(fleet: Fleet, converged: Host) -> None:
    end_at_once(converged, "lqchen")
    in_container(converged, "lqchen", "echo own >home/lqchen/.ssh/authorized_keys")
    assert plan(converged) == ["container: update the container of lqchen: authorized_keys"]
    assert reconcile(converged).ok
    assert not running(converged, "lqchen")
    text = converged.read(f"{SSH}/authorized_keys")
    assert text.startswith("own\n# BEGIN lxc-gpu"), "the user's own line stays, outside ours"
    assert fleet.types("ssh gpu17-manage").ok
    assert fleet.types("ssh gpu17 true").ok


def test_names_that_begin_alike_are_not_confused(fleet: Fleet, converged: Host) -> None:
    foreign = "chen:5000000:65536"
    for file in ("subuid", "subgid"):
        converged.sh(f"sed -i '1i {foreign}' /etc/{file}; sed -i /^lqchen:/d /etc/{file}")
    converged.sh("echo 'chen veth lxcbr0 3' >>/etc/lxc/lxc-usernet")
    try:
        assert reconcile(converged).ok
        assert converged.read("/etc/subuid").startswith(f"{foreign}\n")
        assert "chen veth lxcbr0 3\n" in converged.read("/etc/lxc/lxc-usernet")
    finally:
        converged.sh("sed -i /^chen/d /etc/subuid /etc/subgid /etc/lxc/lxc-usernet")


class TestWords:
    def test_plan_is_for_people(self, converged: Host) -> None:
        converged.sh("usermod --shell /bin/sh lqchen")
        done = converged.run(["lxc-gpu", "plan"])
        assert done.stdout.startswith("account  change the account lqchen: shell /bin/sh -> ")
        assert "1 change to revision" in done.stderr
        assert "`lxc-gpu reconcile` makes it." in done.stderr

    def test_reconcile_and_status_are_for_people_and_programs(self, converged: Host) -> None:
        converged.sh("usermod --shell /bin/sh lqchen")
        done = reconcile(converged)
        assert "gpu17: converged at revision " in done.stdout
        assert ", 1 change, " in done.stdout
        said = converged.run(["lxc-gpu", "status"]).stdout
        assert said.startswith(done.stdout)
        assert "The round ended " in said
        facts = json.loads(converged.run(["lxc-gpu", "status", "--json"]).stdout)
        assert facts["converged"] is True
        assert len(facts["changes"]) == 1
        messages = [decode(line) for line in reconcile(converged, "--json").stdout.splitlines()]
        assert [type(message).__name__ for message in messages] == ["Report"]

    def test_one_user_or_one_kind_alone(self, converged: Host) -> None:
        converged.sh(f"usermod --shell /bin/sh ann; rm {KEYS}/lqchen")
        assert reconcile(converged, "--user", "lqchen").ok
        assert [line.split()[0] for line in plan(converged)] == ["account:"]
        assert reconcile(converged, "--kind", "account").ok
        assert plan(converged) == []
        done = converged.run(["lxc-gpu", "plan", "--kind", "nonsense"], check=False)
        assert (done.status, done.stdout) == (1, "")
        assert "There is no kind nonsense." in done.stderr
        assert "authorized_keys, register_keys, connection, account" in done.stderr

    def test_only_root_may(self, converged: Host) -> None:
        for command in ("plan", "reconcile"):
            done = converged.run(["runuser", "-u", "nobody", "lxc-gpu", command], check=False)
            assert done.status == 1
            assert "Use sudo." in done.stderr
