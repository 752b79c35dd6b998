"""Who may use the servers: `allow`, and `allow_groups` with the groups in them."""

from __future__ import annotations

from ldap3.utils.conv import escape_filter_chars

from webui.directory.entries import Entry, same_dn
from webui.directory.searches import Searches

DEEPEST_GROUP = 10
MOST_GROUPS = 1000

_MEMBER_OF_CHAIN = "memberOf:1.2.840.113556.1.4.1941:"
"""LDAP_MATCHING_RULE_IN_CHAIN (MS-ADTS 3.1.1.3.4.4.3)."""


def allowed(searches: Searches, entry: Entry) -> bool:
    """Whether `entry` is one of those who may use the servers."""
    return bool(searches.itself(entry.dn, searches.config.allow)) and in_groups(searches, entry)


def in_groups(searches: Searches, entry: Entry) -> bool:
    """Whether `entry` is in one of `allow_groups`, if there are any."""
    goals = searches.config.allow_groups
    if not goals:
        return True
    if searches.config.nested == "active-directory":
        groups = "".join(f"({_MEMBER_OF_CHAIN}={escape_filter_chars(dn)})" for dn in goals)
        return bool(searches.itself(entry.dn, f"(|{groups})"))
    return _follow(searches, entry)


def direct_members(searches: Searches) -> frozenset[str]:
    """Whom `allow_groups` name themselves: DNs, and logins. Others are found group by group."""
    names = ("member", "uniqueMember", "memberUid")
    found: set[str] = set()
    for dn in searches.config.allow_groups:
        for group in searches.itself(dn, "(objectClass=*)", attributes=names):
            values = [v for name in names for v in group.attributes.get(name.lower(), ())]
            found |= {same_dn(value.decode("utf-8", "replace")) for value in values}
    return frozenset(found)


def _follow(searches: Searches, entry: Entry) -> bool:
    """Whether a group that lets people in is reached from `entry`, group by group."""
    config = searches.config
    goal = {same_dn(dn) for dn in config.allow_groups}
    login = escape_filter_chars(entry.text(config.login_attribute))
    seen: set[str] = set()
    members, also = [entry.dn], f"(memberUid={login})"
    for _ in range(DEEPEST_GROUP):
        clauses = "".join(
            f"(member={dn})(uniqueMember={dn})" for dn in map(escape_filter_chars, members)
        )
        base, wanted = config.groups_base or config.base, f"(|{clauses}{also})"
        # Only their names: a group may have 10,000 members.
        found = searches.below(base, wanted, most=MOST_GROUPS, attributes=("1.1",))
        new = {same_dn(group.dn): group.dn for group in found}
        if goal & new.keys():
            return True
        members, also = [dn for key, dn in new.items() if key not in seen], ""
        seen |= new.keys()
        if not members or len(seen) > MOST_GROUPS:
            return False
    return False
