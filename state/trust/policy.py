"""Rules for who may change what, judged by the meaning of a change. Pure.

An `admin` may change everything. `iam`, the web page's key, may make the changes that researchers
ask for: keys, names, new users with the next free numbers, registrations, leaving and returning.
Everything else is forbidden, so a new field is the admins' until it is listed here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TypeVar

from state.edits.allocate import Numbers, allocate
from state.edits.changes import LEAVES, NEW, RETURNS, StateChange, describe
from state.errors import LxcGpuError
from state.model.documents import Registration, Signer, State, User
from state.model.layout import subject_of

V = TypeVar("V")

IAM_FOLDERS = ("users", "former", "registrations")
"""Where the role `iam` may write at all."""
_NEW_USER = frozenset(("name", "login", "directory_id", "uid", "port", "subid", "keys"))
_NEW_REGISTRATION = frozenset(("host_key",))


def judge(
    old: State, new: State, signer: Signer | None, paths: Iterable[str] = ()
) -> tuple[str, ...]:
    """Why `signer` may not make `new` of `old`, each reason in words; none if that is allowed.

    `paths` are the files that were changed. A reason ends the sentence "IAM, which ...".
    """
    if signer is None:
        return ("isn't a signer here",)
    if not any(each.role == "admin" for each in new.fleet.signers):
        return ("may not leave the fleet without an admin: nobody could change it any more",)
    if signer.role == "admin":
        return ()
    before, after = narrowed(old, new)
    changes = describe(before, after)
    reasons = [reason for change in changes for reason in _iam(before, after, change)]
    reasons += _wrong_numbers(old, new)
    seen: set[str] = {change.subject_kind for change in changes}
    return tuple(dict.fromkeys([*reasons, *_strays(paths, seen)]))


def role_needed(old: State, new: State, paths: Iterable[str], signers: Iterable[Signer]) -> str:
    """The least role that may make `new` of `old`; empty if no role may."""
    for role in ("iam", "admin"):
        like = next((each for each in signers if each.role == role), None)
        if like is not None and not judge(old, new, like, paths):
            return role
    return ""


def narrowed(old: State, new: State) -> tuple[State, State]:
    """Both states with only those people and registrations that differ: quick to describe."""
    people = _differing(old.users, new.users) | _differing(old.former, new.former)
    servers = _differing(old.registrations, new.registrations)

    def only(state: State) -> State:
        return replace(
            state,
            users={n: u for n in people if (u := state.users.get(n))},
            former={n: u for n in people if (u := state.former.get(n))},
            registrations={s: r for s in servers if (r := state.registrations.get(s))},
        )

    return only(old), only(new)


def _differing(old: Mapping[str, V], new: Mapping[str, V]) -> set[str]:
    if old is new:
        return set()
    return {name for name in old.keys() | new.keys() if old.get(name) is not new.get(name)}


def _iam(old: State, new: State, change: StateChange) -> Iterator[str]:
    """Why the role `iam` may not make one change."""
    if change.subject_kind == "fleet":
        what = "who signs" if change.field == "signers" else "what holds for the whole fleet"
        yield f"may not change {what} ({change.words})"
    elif change.subject_kind == "server":
        yield f"may not change servers ({change.words})"
    elif change.subject_kind == "announcement":
        yield f"may not announce anything ({change.words})"
    elif change.subject_kind == "user":
        yield from _iam_user(old, new, change)
    else:
        yield from _iam_registration(new, change)


def _iam_user(old: State, new: State, change: StateChange) -> Iterator[str]:
    name, field = change.subject, change.field
    if field in (LEAVES, RETURNS, "keys", "name"):
        return
    after = new.users.get(name) or new.former.get(name)
    before = old.users.get(name) or old.former.get(name)
    if field == NEW and after is not None:
        if name not in new.users or not _only_sets(after, _NEW_USER):
            yield f"may not make users of another kind than the web page does ({change.words})"
    elif before is None or after is None:
        yield f"may not delete anybody's file ({change.words})"
    elif field == "login":
        if not _same_person(before, after):
            yield f"may not give an account to another login ({change.words})"
    elif field == "directory_id":
        if before.directory_id is not None:
            yield f"may not change who somebody is in the directory ({change.words})"
    elif field in ("uid", "port", "subid"):
        yield f"may not change somebody's numbers ({change.words})"
    else:
        yield f"may not change `{field}` of a user ({change.words})"


def _same_person(before: User, after: User) -> bool:
    """Whether only the spelling of the login changed, or the directory's id is the same."""
    known = before.directory_id is not None and before.directory_id == after.directory_id
    return known or before.login.casefold() == after.login.casefold()


def _iam_registration(new: State, change: StateChange) -> Iterator[str]:
    server, _, user = change.subject.partition("/")
    registration = new.registrations.get(server, {}).get(user)
    if registration is None:
        yield f"may not remove registrations ({change.words})"
    elif server not in new.servers:
        yield f"may not register on a server that isn't there ({change.words})"
    elif change.field not in (NEW, "host_key"):
        yield f"may not change `{change.field}` of a registration ({change.words})"
    elif change.field == NEW and not _only_sets(registration, _NEW_REGISTRATION):
        yield f"may not set more than a host key in a registration ({change.words})"


def _only_sets(model: User | Registration, fields: frozenset[str]) -> bool:
    return model.model_dump(exclude_defaults=True).keys() <= fields


def _wrong_numbers(old: State, new: State) -> Iterator[str]:
    """New users must have the numbers that `allocate` would give them, one after the other."""
    known = old.users.keys() | old.former.keys()
    fresh = [(n, u) for n, u in new.users.items() if n not in known]
    for name, user in sorted(fresh, key=lambda each: each[1].uid):
        try:
            expected = allocate(old)
        except LxcGpuError as error:
            yield f"may not make the user {name} ({error.message})"
            return
        if Numbers(user.uid, user.port, user.subid) != expected:
            yield (
                f"may not choose numbers: {name} has uid {user.uid}, port {user.port},"
                f" subid {user.subid}; next are {expected.uid}, {expected.port}, {expected.subid}"
            )
        old = replace(old, users={**old.users, name: user})


def _strays(paths: Iterable[str], seen: set[str]) -> Iterator[str]:
    """Files that `iam` has no business with, as far as no change said so already."""
    for path in paths:
        try:
            subject = subject_of(path)
        except ValueError:
            subject = None
        kind = None if subject is None else subject.kind
        if kind in IAM_FOLDERS or (kind == "fleet" and "fleet" in seen):
            continue
        if (kind == "servers" and "server" in seen) or (
            kind == "announcements" and "announcement" in seen
        ):
            continue
        yield f"may not write {path!r}"
