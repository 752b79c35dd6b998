"""`lxc-gpu doctor --login LOGIN`: the entry, why it is let in or not, the user."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence

from state.edits.users import name_of
from state.model.documents import State
from state.model.names import propose_name
from state.wire.findings import Area, Finding, Level
from state.words import plural
from webui.config import DirectoryConfig
from webui.directory.account_status import MORE_STATUS, STATUS, obstacles
from webui.directory.entries import (
    PRIMARY_GROUP,
    Dn,
    LdapEntry,
    directory_id,
    escaped,
    parts_of,
    primary_group,
    unescaped,
)
from webui.directory.groups import DEEPEST_GROUP, MEMBER_OF_CHAIN, MOST_GROUPS
from webui.directory.login import domains_for, find
from webui.directory.logins import Typed, read, search_for
from webui.directory.searches import Searches
from webui.directory.transport.connections import Connections, DirectoryDownError, Reached
from webui.doctor.directory_servers import directory_servers
from webui.doctor.iam import Iam

area, account_area, rule_area = Area("entry"), Area("account"), Area("allowed")
name_area = Area("name")


def judged(iam: Iam) -> Iterator[Finding]:
    """All steps of a login except the password."""
    typed = read(iam.login)
    if typed is None:
        yield area.wrong(f"{iam.login!r} can't be a login.", "Type one such as lqchen.")
        return
    if not iam.config.looks_up:
        yield area.note(
            "Only the person can ask the directory about this login: there is a bind_template, "
            "and no service account.",
            "web.toml, [directory]: `bind_dn` and `bind_password_file` of one that may search",
        )
        return
    config = iam.config.directory
    connections = Connections(config)

    def ask(server: Reached) -> list[Finding]:
        with connections.service(server) as connection:
            return list(_in_directory(Searches(connection, config), iam, typed))

    try:
        yield from connections.reached(ask)
    except DirectoryDownError:
        yield from directory_servers(iam)


def _in_directory(searches: Searches, iam: Iam, typed: Typed) -> Iterator[Finding]:
    config = searches.config
    domains = domains_for(searches, typed)
    entries = find(searches, typed, domains)
    if not entries and not domains.know(typed):
        yield area.wrong(
            f"{typed.whole} belongs to another domain: {typed.domain or typed.suffix} isn't known "
            "here.",
            f"The login alone is {typed.name}",
        )
        return
    if len(entries) != 1:
        yield _not_one(entries, search_for(config.login_attribute, typed), config)
        return
    shown = (config.login_attribute, config.name_attribute, config.mail_attribute)
    asked = (*shown, config.id_attribute, *PRIMARY_GROUP, *STATUS, *MORE_STATUS)
    (entry,) = searches.itself(entries[0].dn, "(objectClass=*)", attributes=asked)
    yield area.ok(entry.dn)
    yield area.ok(", ".join(f"{name}: {entry.text(name) or '(none)'}" for name in shown))
    primary = _primary(searches, entry)
    parts = [
        *account(entry, time.time()),
        *_filter(searches, entry, primary),
        *_groups(searches, entry, primary),
    ]
    yield from parts
    allowed = all(part.level is not Level.WRONG for part in parts)
    if allowed:
        yield rule_area.ok("so this person may use the servers, with the right password")
    login, url = entry.text(config.login_attribute), iam.config.public_url
    found = directory_id(entry.attributes.get(config.id_attribute.lower()))
    yield named(iam.state, login, url, allowed=allowed, found=found)


def account(entry: LdapEntry, now: float) -> Iterator[Finding]:
    """What keeps the person out at the time `now`, even with the right password. Pure."""
    for each in obstacles(entry, now):
        text = f"{each.why[0].upper()}{each.why[1:]}."
        yield (account_area.wrong if each.sure else account_area.note)(text, each.cure)


def _primary(searches: Searches, entry: LdapEntry) -> str:
    """The primary group's DN; empty if there is none (outside of Active Directory)."""
    sid = primary_group(entry)
    groups = searches.itself(f"<SID={sid}>", "(objectClass=*)", attributes=("1.1",)) if sid else []
    return groups[0].dn if groups else ""


def _not_one(entries: Sequence[LdapEntry], wanted: str, config: DirectoryConfig) -> Finding:
    if entries:
        listed = "; ".join(entry.dn for entry in entries[:4])
        return area.wrong(f"{len(entries)} entries match {wanted}: {listed}", "One has to match.")
    return area.wrong(
        f"No entry matches {wanted} below {config.base}.",
        "Is it misspelled? web.toml, [directory]: `base`, `login_attribute`; or the service "
        "account can't see the entry.",
    )


def _filter(searches: Searches, entry: LdapEntry, primary: str) -> Iterator[Finding]:
    """Whether each part of `allow` matches the entry."""
    for part in conditions(searches.config.allow):
        if searches.itself(entry.dn, part, attributes=("1.1",)):
            yield rule_area.ok(f"allow: {part} holds")
        elif primary and _names(part, primary):
            yield rule_area.wrong(
                f"allow: {part} doesn't hold: {short(primary)} is the primary group, which "
                "memberOf never contains.",
                "Name the group in `allow_groups` in web.toml, where primary groups count.",
            )
        else:
            yield rule_area.wrong(
                f"allow: {part} doesn't hold for this entry.",
                "Change the entry, or `allow` in web.toml.",
            )


def _names(part: str, dn: str) -> bool:
    """Whether a filter asks for members of the group `dn`."""
    groups = re.findall(r"memberof[^()=]*=([^()]*)", part, re.IGNORECASE)
    return parts_of(dn) in [parts_of(unescaped(group)) for group in groups]


def conditions(text: str) -> list[str]:
    """The parts of a filter that must all match: `(&(a)(b))` has two. Pure."""
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


def _groups(searches: Searches, entry: LdapEntry, primary: str) -> Iterator[Finding]:
    """By which groups the entry is in one of `allow_groups`, or that it isn't."""
    goals = searches.config.allow_groups
    if not goals:
        return
    more = f"; the primary group is {short(primary)}" if primary else ""
    if searches.config.nested == "active-directory":
        found = _by_chain(searches, entry, primary)
        yield rule_area.ok(found) if found else _outside(goals, more)
        return
    ways = _ways(searches, entry, primary)
    for way in ways:
        if parts_of(way[-1]) in map(parts_of, goals):
            yield rule_area.ok("through " + " < ".join(short(dn) for dn in way))
            return
    listed = ", ".join(sorted({short(way[-1]) for way in ways})) or "none at all"
    yield _outside(goals, f"; its groups: {listed}{more}")


def _by_chain(searches: Searches, entry: LdapEntry, primary: str) -> str:
    """In words, the first of `allow_groups` that Active Directory's own rule finds."""
    for goal in searches.config.allow_groups:
        above = f"({MEMBER_OF_CHAIN}={escaped(goal)})"
        if searches.itself(entry.dn, above, attributes=("1.1",)):
            return f"in {short(goal)}, directly or through other groups"
        if primary and parts_of(primary) == parts_of(goal):
            return f"in {short(goal)}, the primary group"
        if primary and searches.itself(primary, above, attributes=("1.1",)):
            return f"in {short(goal)}, through {short(primary)}, the primary group"
    return ""


def _outside(goals: Sequence[str], more: str) -> Finding:
    return rule_area.wrong(
        f"In none of the groups in `allow_groups` ({', '.join(map(short, goals))}){more}.",
        "Add the person to one of them in the directory, or change `allow_groups` in web.toml.",
    )


def _ways(searches: Searches, entry: LdapEntry, primary: str) -> list[tuple[str, ...]]:
    """The groups above the entry, each with the path to it, found as the login finds them."""
    login = escaped(entry.text(searches.config.login_attribute))
    base = searches.config.groups_base or searches.config.base
    ways: dict[Dn, tuple[str, ...]] = {parts_of(primary): (primary,)} if primary else {}
    below = [(entry.dn, ()), *((primary, way) for way in ways.values())]
    for depth in range(DEEPEST_GROUP):
        above: list[tuple[str, tuple[str, ...]]] = []
        for dn, way in below:
            member = escaped(dn)
            also = f"(memberUid={login})" if depth == 0 else ""
            wanted = f"(|(member={member})(uniqueMember={member}){also})"
            for group in searches.below(base, wanted, most=MOST_GROUPS, attributes=("1.1",)):
                if parts_of(group.dn) not in ways and len(ways) < MOST_GROUPS:
                    ways[parts_of(group.dn)] = (*way, group.dn)
                    above.append((group.dn, ways[parts_of(group.dn)]))
        below = above
    return list(ways.values())


def short(dn: str) -> str:
    """The first part of a distinguished name, which is enough for people."""
    return dn.partition(",")[0]


def named(
    state: State, login: str, url: str, *, allowed: bool = True, found: str | None = None
) -> Finding:
    """Which user this login is or would become. `found` is the entry's id. Pure."""
    name = name_of(state, login, found)
    if name is None and not allowed:
        return name_area.ok("isn't a user of the fleet")
    if name is None:
        taken = state.users.keys() | state.former.keys()
        name = propose_name(login, taken, state.fleet.account_prefix)
        return name_area.ok(f"isn't a user yet; would become the user {name}")
    folder = "users" if name in state.users else "former"
    user = state.users.get(name) or state.former[name]
    if found and user.directory_id and user.directory_id.casefold() != found.casefold():
        return name_area.wrong(
            f"The login belongs to the user {name}, but this entry is another person's: the page "
            "refuses it (person-differs).",
            f"If it is a new account of the same person, commit `directory_id: {found}` in "
            f"{folder}/{name}.yaml. Another person needs another login.",
        )
    if folder == "former":
        return name_area.note(f"is the former user {name} (former/{name}.yaml).")
    places = [server for server, there in state.registrations.items() if name in there]
    where = f"registered on {', '.join(sorted(places))}" if places else "not registered anywhere"
    keys = plural(len(user.keys), "key")
    return name_area.ok(f"is the user {name}: {keys}, {where}; {url}/user/{name}")
