"""`lxc-gpu doctor --login LOGIN`: which entry, allowed why or why not, which name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ldap3 import BASE, SUBTREE, Connection
from ldap3.core.exceptions import LDAPNoSuchObjectResult
from ldap3.utils.conv import escape_filter_chars

from state.model.documents import State
from state.model.names import propose_name
from state.wire.findings import Area, Finding, Level
from webui.config import DirectoryConfig
from webui.directory.connections import Connections, DirectoryDownError, Reached
from webui.directory.groups import DEEPEST_GROUP, MOST_GROUPS
from webui.directory.login import domains_for, find
from webui.directory.logins import Typed, read, search_for
from webui.directory.searches import Searches
from webui.doctor.iam import Iam
from webui.doctor.people import why_down

area, rule_area, name_area = Area("entry"), Area("allowed"), Area("name")


@dataclass(frozen=True)
class Found:
    """One entry: its name, and some attributes as text."""

    dn: str
    attributes: Mapping[str, Sequence[str]]

    def text(self, attribute: str) -> str:
        """The first value; empty if there is none."""
        for name, values in self.attributes.items():
            if name.lower() == attribute.lower() and values:
                return str(values[0])
        return ""


def judged(iam: Iam) -> Iterator[Finding]:
    """The whole way of a login, but for the password."""
    typed = read(iam.login)
    if typed is None:
        yield area.wrong(f"{iam.login!r} is no possible login.", "Such as lqchen.")
        return
    config = iam.config.directory
    connections = Connections(config)

    def ask(server: Reached) -> list[Finding]:
        with connections.service(server) as connection:
            return list(_in_directory(Asking(connection, config), iam, typed))

    try:
        yield from connections.reached(ask)
    except DirectoryDownError as error:
        yield area.wrong(*why_down(error.details, config.servers[0], config))


@dataclass(frozen=True)
class Asking:
    """Searches, as the service account."""

    connection: Connection
    config: DirectoryConfig

    def search(self, base: str, wanted: str, scope: Any = SUBTREE) -> list[Found]:
        """The entries that match; none where there is no base."""
        c = self.config
        names = [c.login_attribute, c.name_attribute, c.id_attribute, c.mail_attribute]
        try:
            self.connection.search(base, wanted, scope, attributes=names, time_limit=8)
        except LDAPNoSuchObjectResult:
            return []
        answers = self.connection.response or ()
        return [
            Found(a["dn"], {k: _texts(v) for k, v in a["raw_attributes"].items()})
            for a in answers
            if a["type"] == "searchResEntry"
        ]


def _texts(values: Sequence[bytes]) -> list[str]:
    return [value.decode("utf-8", "replace") for value in values]


def _in_directory(asking: Asking, iam: Iam, typed: Typed) -> Iterator[Finding]:
    config = iam.config.directory
    searches = Searches(asking.connection, config)
    domains = domains_for(searches, typed)
    if not domains.know(typed):
        yield area.wrong(
            f"{typed.whole} is of another domain: {typed.domain or typed.suffix} is none of here.",
            f"The login alone is {typed.name}",
        )
        return
    entries = [
        Found(each.dn, {name: _texts(values) for name, values in each.attributes.items()})
        for each in find(searches, typed, domains)
    ]
    if len(entries) != 1:
        yield _not_one(entries, search_for(config.login_attribute, typed), config)
        return
    (entry,) = entries
    yield area.ok(entry.dn)
    names = (config.login_attribute, config.name_attribute, config.mail_attribute)
    yield area.ok(", ".join(f"{name}: {entry.text(name) or '(none)'}" for name in names))
    parts = [*_filter(asking, entry), *_groups(asking, entry)]
    yield from parts
    allowed = all(part.level is not Level.WRONG for part in parts)
    if allowed:
        yield rule_area.ok("so may use the servers, with the right password")
    login = entry.text(config.login_attribute)
    yield named(iam.state, login, iam.config.public_url, allowed=allowed)


def _not_one(entries: Sequence[Found], wanted: str, config: DirectoryConfig) -> Finding:
    if entries:
        listed = "; ".join(entry.dn for entry in entries[:4])
        return area.wrong(f"{len(entries)} entries match {wanted}: {listed}", "It has to be one.")
    return area.wrong(
        f"No entry matches {wanted} below {config.base}.",
        "Another spelling? web.toml, [directory]: `base`, `login_attribute`; or the service "
        "account may not see the entry.",
    )


def _filter(asking: Asking, entry: Found) -> Iterator[Finding]:
    """Each part of `allow`."""
    for part in conditions(asking.config.allow):
        if asking.search(entry.dn, part, BASE):
            yield rule_area.ok(f"allow: {part} holds")
        else:
            yield rule_area.wrong(
                f"allow: {part} doesn't hold for this entry.",
                "Change the entry, or `allow` in web.toml.",
            )


def conditions(text: str) -> list[str]:
    """The parts that all have to hold: `(&(a)(b))` has two. Pure."""
    text = text.strip()
    if not text.startswith("(&"):
        return [text]
    parts, depth, begin = [], 0, 0
    for place, letter in enumerate(text[2:-1], 2):
        if letter == "(":
            begin, depth = (place, 1) if depth == 0 else (begin, depth + 1)
        elif letter == ")":
            depth -= 1
            if depth == 0:
                parts += conditions(text[begin : place + 1])
    return parts or [text]


def _groups(asking: Asking, entry: Found) -> Iterator[Finding]:
    """How the entry comes to be in one of `allow_groups`."""
    goals = asking.config.allow_groups
    if not goals:
        return
    if asking.config.nested == "active-directory":
        rule = "memberOf:1.2.840.113556.1.4.1941:"
        for goal in goals:
            if asking.search(entry.dn, f"({rule}={escape_filter_chars(goal)})", BASE):
                yield rule_area.ok(f"in {short(goal)}, directly or by way of groups")
                return
        yield _outside(goals, "")
        return
    ways = _ways(asking, entry)
    for way in ways:
        if way[-1].casefold() in {goal.casefold() for goal in goals}:
            yield rule_area.ok("by way of " + " < ".join(short(dn) for dn in way))
            return
    listed = ", ".join(sorted({short(way[-1]) for way in ways})) or "none at all"
    yield _outside(goals, f"; its groups: {listed}")


def _outside(goals: Sequence[str], more: str) -> Finding:
    return rule_area.wrong(
        f"In none of the groups that let people in ({', '.join(map(short, goals))}){more}.",
        "Add the person to one of them in the directory, or change `allow_groups` in web.toml.",
    )


def _ways(asking: Asking, entry: Found) -> list[tuple[str, ...]]:
    """The groups above the entry, each with the way there from below; as the login itself goes."""
    login = escape_filter_chars(entry.text(asking.config.login_attribute))
    base = asking.config.groups_base or asking.config.base
    ways: dict[str, tuple[str, ...]] = {}
    below: list[tuple[str, ...]] = [(entry.dn,)]
    for depth in range(DEEPEST_GROUP):
        above: list[tuple[str, ...]] = []
        for way in below:
            member = escape_filter_chars(way[-1])
            also = f"(memberUid={login})" if depth == 0 else ""
            for group in asking.search(base, f"(|(member={member})(uniqueMember={member}){also})"):
                if group.dn.casefold() not in ways and len(ways) < MOST_GROUPS:
                    ways[group.dn.casefold()] = (*(way if depth else ()), group.dn)
                    above.append(ways[group.dn.casefold()])
        below = above
    return list(ways.values())


def short(dn: str) -> str:
    """The first part of a distinguished name: enough for people."""
    return dn.partition(",")[0]


def named(state: State, login: str, url: str, *, allowed: bool = True) -> Finding:
    """Which user it is, or would become. Pure."""
    same = login.casefold()
    for name, user in state.users.items():
        if user.login.casefold() == same:
            places = [server for server, there in state.registrations.items() if name in there]
            where = f"registered on {', '.join(sorted(places))}" if places else "registered nowhere"
            keys = "1 key" if len(user.keys) == 1 else f"{len(user.keys)} keys"
            return name_area.ok(f"is the user {name}: {keys}, {where}; {url}/user/{name}")
    for name, user in state.former.items():
        if user.login.casefold() == same:
            return name_area.note(f"was the user {name}, and has left (former/{name}.yaml).")
    if not allowed:
        return name_area.ok("no user of the fleet")
    name = propose_name(login, state.users.keys() | state.former.keys())
    return name_area.ok(f"not known yet; would become the user {name}")
