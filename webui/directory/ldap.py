"""People log in: LDAP, with OpenLDAP and Active Directory.

What a person types never reaches a filter or a name unescaped, an empty password never reaches a
server at all (RFC 4513, 5.1.2: servers answer "success" to it), exactly one entry must match, and
nobody gets in whom `allow` doesn't let in.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from ldap3 import ALL_ATTRIBUTES, BASE, SUBTREE, Connection
from ldap3.core.exceptions import LDAPNoSuchObjectResult
from ldap3.utils.conv import escape_filter_chars
from ldap3.utils.dn import escape_rdn

from state.model.documents import User
from webui.config import DirectoryConfig
from webui.directory.connections import (
    Connections,
    DirectoryDownError,
    NotAllowedError,
    Reached,
    WrongLoginError,
    wrong,
)
from webui.directory.entries import STATUS, Entry, closed, directory_id, printable, search_for

__all__ = [
    "Directory",
    "DirectoryDownError",
    "Found",
    "NotAllowedError",
    "Person",
    "WrongLoginError",
]

LOGIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@-]{0,63}", re.ASCII)
"""Logins that we ask a directory about; anything else is no login anywhere."""

LONGEST_PASSWORD = 1024
DEEPEST_GROUP = 10
MOST_GROUPS = 1000
AT_ONCE = 100
"""Users in one search: fewer than any directory's limit on answers, so none has to be raised."""

_MEMBER_OF_CHAIN = "memberOf:1.2.840.113556.1.4.1941:"


@dataclass(frozen=True)
class Person:
    """Who somebody is, as the directory says."""

    login: str
    """As the directory spells it, not as it was typed."""
    full_name: str
    directory_id: str | None
    mail: str


@dataclass(frozen=True)
class Found:
    """What the directory says about one of our users."""

    full_name: str = ""
    """Empty if it doesn't say."""
    gone: str = ""
    """Why this person counts as gone, in words; empty if not."""


class Directory:
    """The directory, as the configuration describes it. Any number of threads may use it."""

    def __init__(self, config: DirectoryConfig) -> None:
        self._config = config
        self._connections = Connections(config)

    def authenticate(self, login: str, password: str) -> Person:
        """Who logs in with these. WrongLoginError, NotAllowedError or DirectoryDownError."""
        if not LOGIN.fullmatch(login) or not 0 < len(password) <= LONGEST_PASSWORD:
            raise wrong("not sent: no possible login, or an empty or overlong password")
        with self._connections.reached() as server:
            if self._config.bind_template:
                return self._by_template(server, login, password)
            return self._by_search(server, login, password)

    def lookup(self, login: str) -> Person | None:
        """Who has this login, asked by the service account; None if nobody (allowed) does."""
        if not LOGIN.fullmatch(login):
            return None
        with self._connections.reached() as server, self._connections.service(server) as service:
            entries = self._find(service, login)
            if len(entries) != 1 or not self._allowed(service, entries[0]):
                return None
            return self._person(entries[0])

    def look_up_all(self, users: Mapping[str, User]) -> dict[str, Found]:
        """What the directory says about each of `users`, asked by the service account.

        One connection, two searches for each hundred users. DirectoryDownError if it doesn't
        answer all of them: half an answer is none.
        """
        found: dict[str, Found] = {}
        reached = self._connections.reached(people=len(users))
        with reached as server, self._connections.service(server) as service:
            members = self._direct_members(service)
            rest = iter(users.items())
            while some := dict(islice(rest, AT_ONCE)):
                found |= self._look_up(service, some, members)
        return found

    def _direct_members(self, service: Connection) -> frozenset[str]:
        """Whom `allow_groups` name themselves: DNs, and logins. Others are found group by group."""
        names = ("member", "uniqueMember", "memberUid")
        found: set[str] = set()
        for dn in self._config.allow_groups:
            for group in self._search(service, dn, "(objectClass=*)", scope=BASE, attributes=names):
                values = [v for name in names for v in group.attributes.get(name.lower(), ())]
                found |= {_same_dn(value.decode("utf-8", "replace")) for value in values}
        return frozenset(found)

    def _look_up(
        self, service: Connection, users: Mapping[str, User], members: frozenset[str]
    ) -> dict[str, Found]:
        names = self._config
        wanted = "".join(search_for(names, u.login, u.directory_id) for u in users.values())
        asked = (names.login_attribute, names.name_attribute, names.id_attribute, *STATUS)
        most = 10 * len(users)
        entries = self._search(service, names.base, f"(|{wanted})", most=most, attributes=asked)
        allow = names.allow if names.allow.startswith("(") else f"({names.allow})"
        both = f"(&{allow}(|{wanted}))"
        inside = self._search(service, names.base, both, most=most, attributes=("1.1",))
        allowed = {_same_dn(entry.dn) for entry in inside}

        def lets_in(entry: Entry) -> bool:
            login = entry.text(names.login_attribute).casefold()
            if _same_dn(entry.dn) not in allowed:
                return False
            return bool(members & {_same_dn(entry.dn), login}) or self._in_groups(service, entry)

        return {name: self._found(user, entries, lets_in) for name, user in users.items()}

    def _found(
        self, user: User, entries: Sequence[Entry], lets_in: Callable[[Entry], bool]
    ) -> Found:
        same_id = [e for e in entries if user.directory_id and self._id(e) == user.directory_id]
        login = self._config.login_attribute
        same_login = [e for e in entries if e.text(login).casefold() == user.login.casefold()]
        if not same_id and user.directory_id and any(self._id(e) for e in same_login):
            return Found(gone="the login belongs to another person now")
        mine = same_id or same_login
        if not mine:
            return Found(gone="there is no such entry")
        if len(mine) > 1:  # who is meant can't be told, so nobody is gone
            return Found()
        (entry,) = mine
        gone = closed(entry, time.time())
        if not gone and not lets_in(entry):
            gone = "not among those who may use the servers"
        return Found(printable(entry.text(self._config.name_attribute)), gone)

    def _id(self, entry: Entry) -> str | None:
        return directory_id(entry.attributes.get(self._config.id_attribute.lower()))

    def _by_search(self, server: Reached, login: str, password: str) -> Person:
        with self._connections.service(server) as service:
            entries = self._find(service, login)
            if len(entries) != 1:
                self._connections.refused(server, password)
                raise wrong(f"{len(entries)} entries match the login")
            with self._connections.bound(server, entries[0].dn, password):
                pass
            return self._let_in(service, entries[0])

    def _by_template(self, server: Reached, login: str, password: str) -> Person:
        template = self._config.bind_template
        escaped = escape_rdn(login) if "=" in template else login
        with self._connections.bound(server, template.replace("{login}", escaped), password) as own:
            entries = self._find(own, login)
            if len(entries) != 1:
                raise wrong(f"{len(entries)} entries match the login")
            return self._let_in(own, entries[0])

    def _let_in(self, connection: Connection, entry: Entry) -> Person:
        if not self._allowed(connection, entry):
            raise NotAllowedError(
                "login-not-allowed",
                "Your password is right, but you are not among those who may use the GPU servers.",
                "Ask your sysadmin to let you in.",
                details=f"{entry.dn} is outside `allow` or `allow_groups`",
            )
        return self._person(entry)

    def _find(self, connection: Connection, login: str) -> list[Entry]:
        wanted = f"({self._config.login_attribute}={escape_filter_chars(login)})"
        return self._search(connection, self._config.base, wanted, most=2)

    def _allowed(self, connection: Connection, entry: Entry) -> bool:
        if not self._search(connection, entry.dn, self._config.allow, scope=BASE):
            return False
        return self._in_groups(connection, entry)

    def _in_groups(self, connection: Connection, entry: Entry) -> bool:
        """Whether `entry` is in one of `allow_groups`, if there are any."""
        if not self._config.allow_groups:
            return True
        if self._config.nested == "active-directory":
            groups = "".join(
                f"({_MEMBER_OF_CHAIN}={escape_filter_chars(dn)})"
                for dn in self._config.allow_groups
            )
            return bool(self._search(connection, entry.dn, f"(|{groups})", scope=BASE))
        return self._follow_groups(connection, entry)

    def _follow_groups(self, connection: Connection, entry: Entry) -> bool:
        """Whether a group that lets people in is reached from `entry`, group by group."""
        goal = {_same_dn(dn) for dn in self._config.allow_groups}
        login = escape_filter_chars(entry.text(self._config.login_attribute))
        seen: set[str] = set()
        members, also = [entry.dn], f"(memberUid={login})"
        for _ in range(DEEPEST_GROUP):
            clauses = "".join(
                f"(member={dn})(uniqueMember={dn})" for dn in map(escape_filter_chars, members)
            )
            base = self._config.groups_base or self._config.base
            wanted = f"(|{clauses}{also})"  # only their names: a group may have 10,000 members
            found = self._search(connection, base, wanted, most=MOST_GROUPS, attributes=("1.1",))
            new = {_same_dn(group.dn): group.dn for group in found}
            if goal & new.keys():
                return True
            members, also = [dn for key, dn in new.items() if key not in seen], ""
            seen |= new.keys()
            if not members or len(seen) > MOST_GROUPS:
                return False
        return False

    def _search(
        self,
        connection: Connection,
        base: str,
        wanted: str,
        *,
        scope: Any = SUBTREE,
        most: int = 1,
        attributes: Sequence[str] = (),
    ) -> list[Entry]:
        names = self._config
        try:
            connection.search(
                base,
                wanted,
                scope,
                attributes=list(attributes) or [ALL_ATTRIBUTES, names.id_attribute],
                size_limit=0,
                time_limit=names.answer_seconds,
            )
        except LDAPNoSuchObjectResult:
            return []
        answers = connection.response or ()
        found = [each for each in answers if each["type"] == "searchResEntry"]
        return [
            Entry(
                each["dn"],
                {k.lower(): list(v) for k, v in each["raw_attributes"].items()},
            )
            for each in found[:most]
        ]

    def _person(self, entry: Entry) -> Person:
        names = self._config
        login = entry.text(names.login_attribute)
        return Person(
            login=login,
            full_name=printable(entry.text(names.name_attribute)) or login,
            directory_id=self._id(entry),
            mail=printable(entry.text(names.mail_attribute)),
        )


def _same_dn(dn: str) -> str:
    return re.sub(r"\s*([,=+])\s*", r"\1", dn).casefold()
