"""What follows if users are gone from the directory. Pure.

A directory that is broken, or searched in the wrong place, seems to know nobody. So nobody is
disabled after one refresh, nor while many are gone at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from state.model.documents import User
from webui.directory.lookup import LookupResult


@dataclass(frozen=True)
class VanishedRule:
    """When users who are gone from the directory are disabled automatically."""

    disable: bool
    after: int
    """After this many refreshes in a row without the person."""
    most: int
    """While more people than this are gone at once, nobody is disabled."""


@dataclass(frozen=True)
class Gone:
    """A user who is gone from the directory."""

    name: str
    why: str
    since: float
    times: int
    """The number of refreshes in a row without them."""


@dataclass(frozen=True)
class Decision:
    """What to do after one refresh."""

    gone: Mapping[str, Gone] = field(default_factory=dict)
    renamed: Mapping[str, str] = field(default_factory=dict)
    """By user: the directory's full name, where it differs from ours."""
    disable: tuple[str, ...] = ()
    held: str = ""
    """Why nobody is disabled although the rule applies to somebody."""


def decide(
    users: Mapping[str, User],
    found: Mapping[str, LookupResult],
    before: Mapping[str, Gone],
    rule: VanishedRule,
    now: float,
) -> Decision:
    """What follows from `found`; `before` are those who were gone at the last refresh."""
    gone = {
        name: _again(name, found[name].gone, before.get(name), now)
        for name in users
        if name in found and found[name].gone
    }
    renamed = {
        name: found[name].full_name
        for name, user in users.items()
        if name in found and not found[name].gone and _differs(user.name, found[name].full_name)
    }
    due = tuple(name for name, each in gone.items() if each.times >= rule.after)
    if not rule.disable or not due:
        return Decision(gone, renamed)
    held = _held(len(gone), len(users), rule)
    return Decision(gone, renamed, () if held else due, held)


def _again(name: str, why: str, before: Gone | None, now: float) -> Gone:
    if before is None:
        return Gone(name, why, now, 1)
    return Gone(name, why, before.since, before.times + 1)


def _differs(here: str, there: str) -> bool:
    return bool(there) and " ".join(there.split()) != here


def _held(gone: int, users: int, rule: VanishedRule) -> str:
    if gone == users:
        return "the directory seems to know nobody: its base or `allow` may be wrong"
    if gone > rule.most:
        return f"{gone} people are gone at once, more than disable_most = {rule.most}"
    return ""
