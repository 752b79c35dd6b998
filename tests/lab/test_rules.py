"""The kernel's rules are read again once they changed, and not before."""

from __future__ import annotations

from tests.lab.fleet import Fleet

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


def test_rules_are_read_again_once_they_changed_and_not_before(fleet: Fleet) -> None:
    alone = ["unshare", "--net", "/opt/lxc-gpu/bin/python", "-c", READS_RULES]
    assert fleet.gpu17.run(alone, check=False).stderr == ""
    fleet.gpu17.run(["rm", "/run/lxc-gpu/rules-of-a-test"])
