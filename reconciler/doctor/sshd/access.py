"""Decides whether sshd lets an account in: AllowUsers, DenyUsers, AllowGroups, DenyGroups. Pure.

`sshd -T` prints these lists but doesn't apply them. This module does, in sshd's order and with its
patterns: allowed_user() in auth.c, match_user() in match.c and ga_match() in groupaccess.c of
OpenSSH, which sshd_config(5) describes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import ip_address, ip_network


@dataclass(frozen=True)
class SshLogin:
    """An account, and the address that somebody logs in to it from."""

    user: str
    groups: frozenset[str]
    address: str
    """The client's address. sshd knows clients by name only with `UseDNS yes`, which Debian doesn't
    set."""


@dataclass(frozen=True)
class SshdRefusal:
    """Why sshd refuses a login."""

    keyword: str
    """The list, as sshd_config(5) spells it."""
    patterns: tuple[str, ...]
    """Of a Deny list the pattern that matches; of an Allow list all, as none matches."""


def refusal(shown: str, caller: SshLogin) -> SshdRefusal | None:
    """Why sshd refuses the login, by what `sshd -T -C` printed (`shown`); None if it doesn't."""
    deny, allow = _listed(shown, "DenyUsers"), _listed(shown, "AllowUsers")
    for pattern in deny:
        if names(pattern, caller):
            return SshdRefusal("DenyUsers", (pattern,))
    if allow and not any(names(pattern, caller) for pattern in allow):
        return SshdRefusal("AllowUsers", allow)
    deny, allow = _listed(shown, "DenyGroups"), _listed(shown, "AllowGroups")
    for pattern in deny:
        if any(fits(pattern, group) for group in caller.groups):
            return SshdRefusal("DenyGroups", (pattern,))
    if allow and not any(fits(p, group) for p in allow for group in caller.groups):
        return SshdRefusal("AllowGroups", allow)
    return None


def _listed(shown: str, keyword: str) -> tuple[str, ...]:
    words = (line.split(" ", 1) for line in shown.splitlines() if " " in line)
    return tuple(value for name, value in words if name == keyword.lower())


def names(pattern: str, caller: SshLogin) -> bool:
    """Whether the pattern USER or USER@HOSTS matches the login. A `!` counts before hosts only."""
    user, at, hosts = pattern.rpartition("@")
    if not at:
        return fits(pattern, caller.user)
    return fits(user, caller.user) and _from(hosts, caller.address)


def _from(hosts: str, address: str) -> bool:
    """Whether a list of patterns and networks, with commas and `!`, matches the address."""
    found = False
    for each in hosts.split(","):
        word = each.removeprefix("!")
        if _network(word, address) or fits(word.lower(), address.lower()):
            if word != each:
                return False
            found = True
    return found


def _network(word: str, address: str) -> bool:
    try:
        return ip_address(address) in ip_network(word)
    except ValueError:
        return False


def fits(pattern: str, text: str) -> bool:
    """Whether a pattern, in which only `*` and `?` are special, matches the whole text."""
    if "*" not in pattern and "?" not in pattern:
        return pattern == text
    special = {"*": ".*", "?": "."}
    expression = "".join(special.get(c) or re.escape(c) for c in pattern)
    return re.fullmatch(expression, text, re.DOTALL) is not None
