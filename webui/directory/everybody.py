"""What the directory says about all of our users, a hundred in a search."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from state.model.documents import User
from webui.directory.entries import (
    PRIMARY_GROUP,
    Entry,
    directory_id,
    parts_of,
    printable,
    search_for,
)
from webui.directory.groups import Groups
from webui.directory.searches import Searches
from webui.directory.standing import STATUS, closed

AT_ONCE = 100
"""Users in one search: fewer than any directory's limit on answers, so none has to be raised."""


@dataclass(frozen=True)
class Found:
    """What the directory says about one of our users."""

    full_name: str = ""
    """Empty if it doesn't say."""
    gone: str = ""
    """Why this person counts as gone, in words; empty if not."""
    mail: str = ""
    """Where mail goes; empty if the directory doesn't say."""


def look_up(searches: Searches, users: Mapping[str, User]) -> dict[str, Found]:
    """What the directory says about each of `users`: two or three searches for each hundred."""
    found: dict[str, Found] = {}
    groups = Groups(searches)
    rest = iter(users.items())
    while some := dict(islice(rest, AT_ONCE)):
        found |= _look_up(searches, some, groups)
    return found


def _look_up(searches: Searches, users: Mapping[str, User], groups: Groups) -> dict[str, Found]:
    names = searches.config
    wanted = "".join(search_for(names, u.login, u.directory_id) for u in users.values())
    own = (names.login_attribute, names.name_attribute, names.id_attribute, names.mail_attribute)
    asked = (*own, *STATUS, *PRIMARY_GROUP)
    entries = searches.all_below(names.base, f"(|{wanted})", attributes=asked)
    allow = names.allow if names.allow.startswith("(") else f"({names.allow})"
    both = f"(&{allow}(|{wanted}))"
    allowed = {parts_of(entry.dn) for entry in searches.all_below(names.base, both)}
    hold = groups.among(both)

    def lets_in(entry: Entry) -> bool:
        return parts_of(entry.dn) in allowed and hold(entry)

    return {name: _found(searches, user, entries, lets_in) for name, user in users.items()}


def _found(
    searches: Searches, user: User, entries: Sequence[Entry], lets_in: Callable[[Entry], bool]
) -> Found:
    names = searches.config

    def id_of(entry: Entry) -> str | None:
        return directory_id(entry.attributes.get(names.id_attribute.lower()))

    same_id = [e for e in entries if user.directory_id and id_of(e) == user.directory_id]
    same_login = [
        e for e in entries if e.text(names.login_attribute).casefold() == user.login.casefold()
    ]
    if not same_id and user.directory_id and any(id_of(e) for e in same_login):
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
    return Found(
        printable(entry.text(names.name_attribute)), gone, entry.text(names.mail_attribute)
    )
