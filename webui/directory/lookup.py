"""Looks up all users in the directory, a hundred in each search."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from state.errors import LxcGpuError
from state.model.documents import User
from webui.config import DirectoryConfig
from webui.directory.account_status import STATUS, closed
from webui.directory.entries import (
    PRIMARY_GROUP,
    LdapEntry,
    directory_id,
    parts_of,
    printable,
    search_for,
)
from webui.directory.groups import Groups, Told
from webui.directory.searches import Searches

AT_ONCE = 100
"""Users in one search: fewer than any directory's default limit on answers."""


@dataclass(frozen=True)
class LookupResult:
    """What the directory says about one user."""

    full_name: str = ""
    """Empty if the directory doesn't say."""
    gone: str = ""
    """Why this person counts as gone; empty if they don't."""
    mail: str = ""
    """The mail address; empty if the directory doesn't say."""


def look_up(searches: Searches, users: Mapping[str, User]) -> dict[str, LookupResult]:
    """What the directory says about each of `users`, by two or three searches for each hundred."""
    found: dict[str, LookupResult] = {}
    groups = Groups(searches)
    rest = iter(users.items())
    while some := dict(islice(rest, AT_ONCE)):
        found |= _look_up(searches, some, groups)
    return found


def groups_of(
    searches: Searches, users: Mapping[str, User], groups: Mapping[str, str]
) -> dict[str, tuple[str, ...]]:
    """For each of `users` the `groups` that they are in, directly or through other groups.

    `groups` are DNs by their names. A user whose entry isn't certain is left out. LxcGpuError if a
    group doesn't exist; otherwise everybody would seem to have left it.
    """
    for name, dn in groups.items():
        if not searches.itself(dn, "(objectClass=*)", attributes=("1.1",)):
            raise _missing(name, dn)
    told: Told = {}
    asked = {name: Groups(searches, (dn,), told) for name, dn in groups.items()}
    found: dict[str, tuple[str, ...]] = {}
    rest = iter(users.items())
    while some := dict(islice(rest, AT_ONCE)):
        entries, wanted = _entries(searches, some)
        hold = {name: each.among(wanted) for name, each in asked.items()}
        for user, mine in ((name, _of(searches.config, u, entries)) for name, u in some.items()):
            if len(mine) == 1:
                found[user] = tuple(sorted(name for name, holds in hold.items() if holds(mine[0])))
    return found


def _missing(name: str, dn: str) -> LxcGpuError:
    return LxcGpuError(
        "usage-group-missing",
        f"The directory has no group {dn} ({name} in web.toml), or doesn't show it to us.",
        "Correct `groups` in web.toml, [usage], or give the service account more rights.",
    )


def _entries(
    searches: Searches, users: Mapping[str, User], *more: str
) -> tuple[Sequence[LdapEntry], str]:
    """The entries that may belong to `users`, and the filter that finds them."""
    names = searches.config
    each = "".join(search_for(names, u.login, u.directory_id) for u in users.values())
    wanted = f"(|{each})"
    own = (names.login_attribute, names.name_attribute, names.id_attribute)
    asked = (*own, *more, *PRIMARY_GROUP)
    return searches.all_below(names.base, wanted, attributes=asked), wanted


def _look_up(
    searches: Searches, users: Mapping[str, User], groups: Groups
) -> dict[str, LookupResult]:
    names = searches.config
    entries, wanted = _entries(searches, users, names.mail_attribute, *STATUS)
    allow = names.allow if names.allow.startswith("(") else f"({names.allow})"
    both = f"(&{allow}{wanted})"
    allowed = {parts_of(entry.dn) for entry in searches.all_below(names.base, both)}
    hold = groups.among(both)

    def lets_in(entry: LdapEntry) -> bool:
        return parts_of(entry.dn) in allowed and hold(entry)

    return {name: _found(searches, user, entries, lets_in) for name, user in users.items()}


def _found(
    searches: Searches,
    user: User,
    entries: Sequence[LdapEntry],
    lets_in: Callable[[LdapEntry], bool],
) -> LookupResult:
    names = searches.config
    mine = _of(names, user, entries)
    if not mine and _by_login(names, user, entries):
        return LookupResult(gone="the login belongs to another person now")
    if not mine:
        return LookupResult(gone="there is no such entry")
    if len(mine) > 1:  # it isn't certain who is meant, so nobody counts as gone
        return LookupResult()
    (entry,) = mine
    gone = closed(entry, time.time())
    if not gone and not lets_in(entry):
        gone = "no longer among those who may use the servers"
    return LookupResult(
        printable(entry.text(names.name_attribute)), gone, entry.text(names.mail_attribute)
    )


def _of(names: DirectoryConfig, user: User, entries: Sequence[LdapEntry]) -> list[LdapEntry]:
    """The user's entries: those with their id, or else with their login and no other id."""

    def id_of(entry: LdapEntry) -> str | None:
        return directory_id(entry.attributes.get(names.id_attribute.lower()))

    same_id = [e for e in entries if user.directory_id and id_of(e) == user.directory_id]
    same_login = _by_login(names, user, entries)
    if not same_id and user.directory_id and any(id_of(e) for e in same_login):
        return []
    return same_id or same_login


def _by_login(names: DirectoryConfig, user: User, entries: Sequence[LdapEntry]) -> list[LdapEntry]:
    login = user.login.casefold()
    return [each for each in entries if each.text(names.login_attribute).casefold() == login]
