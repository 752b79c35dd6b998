import re
from dataclasses import replace
from pathlib import Path

from reconciler.kinds.traffic.identity import IdentityKind
from reconciler.network.filters import (
    FORWARD,
    INPUT,
    MOST_SSH,
    MOST_SSH_TOGETHER,
    mac_of,
    port_of,
    rules,
    table,
)
from reconciler.network.nft import Element, parse
from reconciler.plan import Change
from state.view import Neighbour
from tests.unit.reconciler.views import KEY, RESIDENT, VIEW, with_

SHOWN = """{"nftables": [{"metainfo": {"version": "1.0.6"}}, {"set": {"family": "bridge",
"name": "identities", "table": "lxc-gpu", "type": ["ifname", "ether_addr", "ipv4_addr"],
"handle": 6, "flags": ["interval"], "elem": [{"elem": {"val": {"concat":
["veth20031_*", "02:00:0a:4d:00:21", "10.77.0.33"]}, "comment": "lqchen"}},
{"concat": ["veth7_*", "02:00:0a:4d:00:22", {"prefix": {"addr": "10.77.0.0", "len": 16}}]}]}},
{"set": {"family": "bridge", "name": "ports", "table": "lxc-gpu", "type": "ifname",
"flags": ["interval"], "elem": ["eth7", {"elem": {"val": "veth20031_*", "comment": "lqchen"}}]}}]}
"""
EMPTY = '{"nftables": [{"set": {"name": "ports", "table": "lxc-gpu", "type": "ifname"}}]}'


def test_a_mac_is_locally_administered_and_says_the_address() -> None:
    assert mac_of("10.77.0.33") == "02:00:0a:4d:00:21"
    first = int(mac_of("255.0.0.1")[:2], 16)
    assert (first & 2, first & 1) == (2, 0), "local, and nobody's multicast"


def test_ports_of_uids_that_begin_alike_are_not_confused() -> None:
    short, long = (port_of(replace(RESIDENT, uid=uid)) for uid in (2003, 20031))
    assert not f"{long[:-1]}abcd".startswith(short[:-1])


def test_what_nft_shows_is_what_is_wanted() -> None:
    wanted = IdentityKind().desired(VIEW)["lqchen"]
    shown = parse(SHOWN)
    assert {e for e in shown if e.owner == "lqchen"} == wanted
    assert [e for e in shown if not e.owner] == [
        Element("identities", '"veth7_*" . 02:00:0a:4d:00:22 . {"prefix": {"addr": "10.77.0.0", '
                '"len": 16}}', ""),
        Element("ports", '"eth7"', ""),
    ]  # fmt: skip
    assert parse(EMPTY) == ()


def test_a_change_is_said_in_words() -> None:
    wanted = IdentityKind().desired(VIEW)["lqchen"]
    said = IdentityKind().describe(Change("lqchen", None, wanted))
    assert said == (
        'let lqchen speak on the bridge as "veth20031_*" . 02:00:0a:4d:00:21 . 10.77.0.33 only'
    )
    gone = IdentityKind().describe(Change("lqchen", wanted, None))
    assert gone == "no longer let lqchen speak on the bridge"


def test_the_table_takes_frames_for_the_gateway_only() -> None:
    assert f"ether daddr != {mac_of('10.77.0.1')} drop" in table("10.77.0.1")


class TestRules:
    def test_nothing_passes_that_the_table_did_not_see(self) -> None:
        unseen = "-m mark ! --mark 0x1000/0x1000 -j DROP"
        assert rules(VIEW, ())["filter", FORWARD][0] == f"-i lxcgpu0 {unseen}"
        assert rules(VIEW, ())["filter", INPUT][:2] == ("! -i lxcgpu0 -j RETURN", unseen)

    def test_the_server_offers_what_the_state_says(self) -> None:
        view = with_(reach_server=(22, 2049))
        words = " ".join(rules(view, ("172.16.2.17",))["filter", INPUT])
        assert "--dport 22 -j RETURN" in words
        assert "--dport 2049 -j RETURN" in words
        assert "-d 172.16.2.17/32 -p udp -m udp --dport 53 -j RETURN" in words
        assert " ACCEPT" not in words, "the server's own firewall judges, too"
        assert words.endswith("-j REJECT --reject-with icmp-port-unreachable")

    def test_containers_reach_each_other_only_if_they_may(self) -> None:
        direct = "-i lxcgpu0 -o lxcgpu0 -j ACCEPT"
        assert direct not in rules(VIEW, ())["filter", FORWARD]
        assert direct in rules(with_(reach_containers=True), ())["filter", FORWARD]

    def test_a_container_opens_no_more_ssh_connections_than_one_sshd_takes_of_an_address(
        self,
    ) -> None:
        """D3: 130 silent ones shut everybody out, here or at another server."""
        piece = (Path(__file__).parents[4] / "setup/sshd/lxc-gpu.conf").read_text()
        of_one = int(re.search(r"^PerSourceMaxStartups (\d+)", piece, re.M)[1])  # type: ignore[index]
        drops_from = int(re.search(r"^MaxStartups (\d+):", piece, re.M)[1])  # type: ignore[index]
        assert 40 < MOST_SSH < of_one < MOST_SSH_TOGETHER < drops_from
        other = Neighbour("172.16.2.18", 2222, KEY)
        found = rules(with_(servers={**VIEW.servers, "gpu18": other}), ())
        each = f"--connlimit-above {MOST_SSH} --connlimit-mask 32"
        leaving = [rule for rule in found["filter", FORWARD] if each in rule]
        assert [rule.split("--dport ")[1].split()[0] for rule in leaving] == ["22", "2222"]
        here = found["filter", INPUT]
        let_in = here.index("-p tcp -m tcp --dport 22 -j RETURN")
        together = f"--connlimit-above {MOST_SSH_TOGETHER} --connlimit-mask 0"
        assert any(each in rule for rule in here[:let_in])
        assert any(together in rule for rule in here[:let_in])
