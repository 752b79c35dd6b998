"""Membership in groups, directly or through other groups: `allow_groups`, groups of past weeks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

from ldap3.utils.conv import escape_filter_chars

from webui.directory.entries import Dn, LdapEntry, parts_of, primary_group
from webui.directory.searches import Searches

DEEPEST_GROUP = 10
MOST_GROUPS = 1000
"""Groups of one person that the doctor looks at, at most."""
AT_ONCE = 100
"""Members in one search."""

MEMBER_OF_CHAIN = "memberOf:1.2.840.113556.1.4.1941:"
"""LDAP_MATCHING_RULE_IN_CHAIN (MS-ADTS 3.1.1.3.4.4.3)."""


def allowed(searches: Searches, entry: LdapEntry) -> bool:
    """Whether the person of `entry` may use the servers: by `allow` and by `allow_groups`."""
    inside = searches.itself(entry.dn, searches.config.allow)
    return bool(inside) and Groups(searches).hold(entry)


Told = dict[tuple[tuple[str, ...], str], dict[Dn, str]]
"""Answers that are remembered: the groups of some members, by what was asked."""


class Groups:
    """Some groups, asked about over one connection. Answers are remembered.

    Active Directory doesn't list a person in their primary group, neither in its `member` nor in
    their `memberOf` (MS-ADA2 2.45, MS-ADA3 2.120). Only their primaryGroupID tells.
    """

    def __init__(
        self, searches: Searches, groups: Sequence[str] | None = None, told: Told | None = None
    ) -> None:
        """`groups` are DNs; None means `allow_groups`. Objects that ask about the same people can
        share the answers in `told`.
        """
        self._searches = searches
        self._wanted = searches.config.allow_groups if groups is None else tuple(groups)
        self._told = {} if told is None else told
        self._config = searches.config
        self._primary: dict[str, bool] = {}

    def hold(self, entry: LdapEntry) -> bool:
        """Whether `entry` is in one of the groups, directly or not; True if there are no groups."""
        if not self._wanted:
            return True
        if self._by_chain:
            inside = bool(self._searches.itself(entry.dn, self._chain()))
        else:
            login = escape_filter_chars(entry.text(self._config.login_attribute))
            inside = self._followed(entry.dn, f"(memberUid={login})")
        return inside or self._by_primary_group(entry)

    def among(self, wanted: str) -> Callable[[LdapEntry], bool]:
        """A function like `hold`, for the many entries that match the filter `wanted`."""
        if not self._wanted:
            return lambda _: True
        if not self._by_chain:
            return lambda entry: self._names(entry) or self.hold(entry)
        found = self._searches.all_below(self._config.base, f"(&{self._chain()}{wanted})")
        inside = {parts_of(each.dn) for each in found}
        return lambda entry: parts_of(entry.dn) in inside or self._by_primary_group(entry)

    @property
    def _by_chain(self) -> bool:
        return self._config.nested == "active-directory"

    def _chain(self, also: str = "") -> str:
        """The filter for members of the groups, by Active Directory's own matching rule."""
        goals = map(escape_filter_chars, self._wanted)
        return "(|" + "".join(f"({MEMBER_OF_CHAIN}={dn})" for dn in goals) + also + ")"

    def _by_primary_group(self, entry: LdapEntry) -> bool:
        sid = primary_group(entry)
        if not sid:
            return False
        if sid not in self._primary:
            self._primary[sid] = self._leads_in(f"<SID={sid}>")
        return self._primary[sid]

    def _leads_in(self, group: str) -> bool:
        """Whether `group`, named as in MS-ADTS 3.1.1.3.1.2.4, is one of the groups or in one."""
        if self._by_chain:
            goals = map(escape_filter_chars, self._wanted)
            also = "".join(f"(distinguishedName={dn})" for dn in goals)
            return bool(self._searches.itself(group, self._chain(also)))
        for found in self._searches.itself(group, "(objectClass=*)", attributes=("1.1",)):
            return parts_of(found.dn) in self._goals or self._followed(found.dn)
        return False

    @cached_property
    def _goals(self) -> frozenset[Dn]:
        return frozenset(map(parts_of, self._wanted))

    def _names(self, entry: LdapEntry) -> bool:
        """Whether one of the groups lists the entry itself, by its DN or its login."""
        login = parts_of(entry.text(self._config.login_attribute))
        return not self._direct_members.isdisjoint({parts_of(entry.dn), login})

    @cached_property
    def _direct_members(self) -> frozenset[Dn]:
        """The members that the groups list. If a server leaves some out, `_followed` finds them."""
        names = ("member", "uniqueMember", "memberUid")
        found: set[Dn] = set()
        for dn in self._wanted:
            for group in self._searches.itself(dn, "(objectClass=*)", attributes=names):
                values = [v for name in names for v in group.attributes.get(name.lower(), ())]
                found |= {parts_of(value.decode("utf-8", "replace")) for value in values}
        return frozenset(found)

    def _followed(self, dn: str, also: str = "") -> bool:
        """Whether going up from `dn`, group by group, leads to one of the groups.

        The filter `also` finds further groups of the first step.
        """
        seen: set[Dn] = set()
        members = [dn]
        for _ in range(DEEPEST_GROUP):
            new = self._groups_of(members, also)
            if not self._goals.isdisjoint(new):
                return True
            members, also = [dn for key, dn in new.items() if key not in seen], ""
            seen |= new.keys()
            if not members:
                return False
        return False

    def _groups_of(self, members: list[str], also: str) -> dict[Dn, str]:
        """The names of the groups that list one of `members`, by their parts."""
        key = (tuple(members), also)
        if key not in self._told:
            self._told[key] = self._asked(members, also)
        return self._told[key]

    def _asked(self, members: list[str], also: str) -> dict[Dn, str]:
        base = self._config.groups_base or self._config.base
        found: dict[Dn, str] = {}
        for begin in range(0, len(members), AT_ONCE):
            some = map(escape_filter_chars, members[begin : begin + AT_ONCE])
            clauses = "".join(f"(member={dn})(uniqueMember={dn})" for dn in some)
            # Only the groups' names are asked for: a group may have 10,000 members.
            groups = self._searches.all_below(base, f"(|{clauses}{also})")
            found |= {parts_of(group.dn): group.dn for group in groups}
        return found
