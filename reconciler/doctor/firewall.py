"""Checks whether firewall rules of other programs drop the containers' traffic.

Our iptables chains are hooked in first, so what ufw or Docker append doesn't matter, nor does a
policy of DROP. A chain of another nftables table decides on its own (nft(8), BASE CHAINS): what it
drops is dropped, whatever our chains accept.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from reconciler.doctor.server import CheckedServer, output, text_of, unit_properties
from reconciler.host import places
from reconciler.kinds.accounts.account import AccountKind
from reconciler.kinds.traffic.identity import IdentityKind
from reconciler.network import filters, iptables, nft
from state.view import View
from state.wire.findings import Area, Finding

area = Area("firewall")
ENDS = ("DROP", "REJECT")
LEGACY_TABLES = "/proc/net/ip_tables_names"


def hooks(_: CheckedServer) -> Iterator[Finding]:
    """Whether our chains come first."""
    for table in ("filter", "nat"):
        text = output("iptables-save", "-t", table)
        yield from hook_findings(table, text)


def hook_findings(table: str, text: str) -> Iterator[Finding]:
    """What iptables-save(8) says of our hooks in a table. Pure."""
    first: list[str] = []
    chains = iptables.parse(text).get(table, iptables.Table({})).chains
    for (_, chain), ours in ((where, o) for where, o in filters.HOOKS.items() if where[0] == table):
        before = _before(chains.get(chain, ()), f"-j {ours}")
        where = f"{table} {chain}"
        again = (
            "`lxc-gpu reconcile` puts ours first. If this comes back, find out which program "
            "makes that rule."
        )
        if before is None:
            yield area.wrong(f"Our rules are not in {where}: {_lost(chain)}.", again)
        elif ends := [rule for rule in before if any(f"-j {end}" in rule for end in ENDS)]:
            yield area.wrong(f"{where}: `{ends[0]}` comes before our rules.", again)
        elif before:
            yield area.note(f"{where}: `{before[0]}` comes before our rules.", again)
        else:
            first.append(f"{chain}{_policy(text, chain)}")
    if first:
        yield area.ok(f"our rules come first in {table} {', '.join(first)}")


def _lost(chain: str) -> str:
    """What it means that a hook is missing."""
    if chain == "INPUT":
        return "containers reach every service of this server"
    return "containers are cut off"


def _before(rules: Sequence[str], hook: str) -> tuple[str, ...] | None:
    """The rules before `hook`; None if it isn't there."""
    return tuple(rules[: rules.index(hook)]) if hook in rules else None


def _policy(text: str, chain: str) -> str:
    if chain == "INPUT":  # our chain returns what it lets pass: the server's own rules decide
        return ""
    dropped = any(line.startswith(f":{chain} DROP") for line in text.splitlines())
    return " (its policy DROP comes after them)" if dropped else ""


def frames(server: CheckedServer) -> Iterator[Finding]:
    """Whether the bridge lets each container use its own MAC and address only."""
    if server.view is None:
        return
    again = (
        "lxc-gpu reconcile. If this comes back, find out which program deletes tables "
        "(nft flush ruleset)."
    )
    shown = nft.shown()
    wanted = IdentityKind().desired(server.view)
    found = IdentityKind().observe(server.view, wanted.keys()).found
    if shown != nft.in_words_of_nft(filters.table(server.view.gateway)):
        is_ = "missing" if shown is None else "not as it should be"
        yield area.wrong(
            f"The nftables table {nft.NAME} is {is_}: containers may pose as each other.", again
        )
    elif others := sorted(_differing(wanted, found) - _without_account(server.view)):
        yield area.wrong(
            f"The nftables table {nft.NAME} has the wrong MAC or address for {', '.join(others)}.",
            again,
        )
    else:
        yield area.ok("each container can use its own MAC and address only")


def _differing(wanted: Mapping[str, object], found: Mapping[str, object]) -> set[str]:
    return {name for name in {*wanted, *found} if wanted.get(name) != found.get(name)}


def _without_account(view: View) -> frozenset[str]:
    """Users that rounds leave alone because another account has their name (`accounts.names`)."""
    return frozenset(AccountKind().observe(view, view.residents.keys()).unreadable)


def other_tables(server: CheckedServer) -> Iterator[Finding]:
    """Base chains of other nftables tables that drop what is forwarded."""
    network = server.view.network if server.view else ""
    if shutil.which("nft") is None:
        yield area.ok("nft isn't installed: no other tables to be expected")
        return
    ruleset = json.loads(output("nft", "--json", "list", "ruleset") or '{"nftables": []}')
    yield from foreign_chains(ruleset["nftables"], network)


def foreign_chains(parts: Sequence[Mapping[str, Any]], network: str) -> Iterator[Finding]:
    """The findings for forward hooks of tables that aren't iptables'. Pure.

    `parts`: the list that `nft --json list ruleset` prints.
    """
    chains = [part["chain"] for part in parts if "chain" in part]
    rules = [part["rule"] for part in parts if "rule" in part]
    found = False
    for chain in chains:
        place = (chain["family"], chain["table"])
        foreign = place != ("ip", "filter") and chain["family"] in ("ip", "inet")
        if chain.get("hook") != "forward" or not foreign:
            continue
        own = [r for r in rules if (r["family"], r["table"], r["chain"]) == (*place, chain["name"])]
        if not _ends(chain, own):
            continue
        found = True
        words = f"The nftables chain {' '.join(place)} {chain['name']}"
        if any(_names_us(r, network) for r in rules if (r["family"], r["table"]) == place):
            yield area.note(f"{words} drops some packets, and has rules for {places.BRIDGE}.")
        else:
            yield area.wrong(
                f"{words} drops what is forwarded, whatever our rules accept.", _let_through(place)
            )
    if not found:
        yield area.ok("no other nftables table drops what is forwarded")


def _ends(chain: Mapping[str, Any], rules: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a chain drops by default, or with a rule that has no condition."""
    last = rules[-1]["expr"] if rules else []
    bare = [next(iter(e)) for e in last if next(iter(e)) not in ("counter", "log")]
    return chain.get("policy") == "drop" or bare in (["drop"], ["reject"])


def _names_us(rule: Mapping[str, Any], network: str) -> bool:
    text = json.dumps(rule["expr"])
    return places.BRIDGE in text or (bool(network) and f'"{network.split("/")[0]}"' in text)


def _let_through(place: tuple[str, str]) -> str:
    if place[1] == "firewalld":
        return (
            f"firewall-cmd --permanent --zone=trusted --add-interface={places.BRIDGE}; "
            "firewall-cmd --reload"
        )
    return (
        f"In /etc/nftables.conf, in that chain: iifname {places.BRIDGE} accept; "
        f"oifname {places.BRIDGE} ct state established,related accept; "
        f"oifname {places.BRIDGE} ct status dnat accept"
    )


def legacy(_: CheckedServer) -> Iterator[Finding]:
    """Whether iptables-legacy has rules, besides those of the iptables that we use."""
    if text_of(LEGACY_TABLES) and "nf_tables" in output("iptables", "--version"):
        yield area.note(
            "iptables-legacy has tables, too: what they drop is dropped, whatever ours accept.",
            "`iptables-legacy-save` shows them. Find out which program uses it.",
        )


def others(_: CheckedServer) -> Iterator[Finding]:
    """Which other firewall programs are active here."""
    for unit, words in (
        ("firewalld.service", "it reloads all tables: our rules are back within seconds"),
        ("ufw.service", "ours come before its rules"),
        ("docker.service", "ours come before its rules"),
    ):
        if unit_properties(unit, "ActiveState").get("ActiveState") == "active":
            name = unit.removesuffix(".service")
            text = f"{name} is active; {words}"
            yield area.note(text) if name == "firewalld" else area.ok(text)
