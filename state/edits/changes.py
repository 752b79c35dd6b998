"""What differs between two states, in words and in types.

The words make commit messages (`state.edits.subject_line`), `plan` and the history; the types let
`state.trust.policy` judge who may change what by the meaning of a change, not by paths.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from state.model.documents import Fleet, Registration, State, User
from state.model.fields import Model
from state.model.keys import PublicKey

SubjectKind = Literal["fleet", "server", "user", "registration", "announcement"]
NEW = "new"
REMOVED = "removed"
LEAVES = "leaves"
RETURNS = "returns"


@dataclass(frozen=True)
class StateChange:
    """One difference: its subject, its field, and the change in words.

    `field` is a field's name in the file, or NEW, REMOVED, LEAVES or RETURNS; a former user's
    fields count as the user's. `subject` is a name; of a registration, SERVER/USER; of the
    fleet, empty.
    """

    subject_kind: SubjectKind
    subject: str
    field: str
    words: str

    def __str__(self) -> str:
        return self.words


def describe(old: State | None, new: State) -> tuple[StateChange, ...]:
    """Everything that is different in `new`; without `old`, everything in it."""
    before = old or State(fleet=new.fleet)
    first = () if old is not None else (StateChange("fleet", "", NEW, "new fleet"),)
    return (
        *first,
        *_fields("fleet", "", "fleet", before.fleet, new.fleet),
        *_servers(before, new),
        *_users(before, new),
        *_registrations(before, new),
        *_announcements(before, new),
    )


def _servers(old: State, new: State) -> Iterator[StateChange]:
    for name in sorted({*old.servers, *new.servers}):
        before, after = old.servers.get(name), new.servers.get(name)
        if before is None and after is not None:
            words = f"new server {name}: address {after.address}"
            yield StateChange("server", name, NEW, words)
        elif after is None:
            yield StateChange("server", name, REMOVED, f"server {name} is removed")
        elif before is not None:
            yield from _fields("server", name, name, before, after)


def _users(old: State, new: State) -> Iterator[StateChange]:
    for name in sorted({*old.users, *new.users, *old.former, *new.former}):
        before = old.users.get(name) or old.former.get(name)
        after = new.users.get(name) or new.former.get(name)
        if after is None:
            yield StateChange("user", name, REMOVED, f"{name}'s file is deleted")
            continue
        if before is None:
            numbers = f"uid {after.uid}, port {after.port}"
            words = f"new user {name} ({after.name}): {numbers}"
            yield StateChange("user", name, NEW, words)
            yield from _added_keys(name, after.keys)
        if before is not None or name in new.former:
            yield from _whereabouts(name, old, new)
        if before is not None:
            yield from _fields("user", name, name, before, after)


def _whereabouts(name: str, old: State, new: State) -> Iterator[StateChange]:
    if name not in new.users and name not in old.former:
        yield StateChange("user", name, LEAVES, f"{name} leaves")
    if name not in old.users and name not in new.former:
        yield StateChange("user", name, RETURNS, f"{name} returns")


def _registrations(old: State, new: State) -> Iterator[StateChange]:
    def pairs(state: State) -> Mapping[tuple[str, str], Registration]:
        each = state.registrations.items()
        return {(server, user): r for server, users in each for user, r in users.items()}

    earlier, later = pairs(old), pairs(new)
    for server, user in sorted({*earlier, *later}):
        subject = f"{server}/{user}"
        before, after = earlier.get((server, user)), later.get((server, user))
        if before is None:
            yield StateChange("registration", subject, NEW, f"{user}: register on {server}")
        elif after is None:
            words = f"{user}: registration on {server} is removed"
            yield StateChange("registration", subject, REMOVED, words)
        else:
            yield from _fields("registration", subject, f"{user} on {server}", before, after)


def _announcements(old: State, new: State) -> Iterator[StateChange]:
    for name in sorted({*old.announcements, *new.announcements}):
        before, after = old.announcements.get(name), new.announcements.get(name)
        called = f"announcement {name}"
        if before is None and after is not None:
            begins = f"from {after.begins} " if after.begins else ""
            stops = ", containers are stopped" if after.stop else ""
            where = _words(after.servers) if after.servers else "all servers"
            words = f"new {called}: {begins}until {after.until}, {where}{stops}: {after.text}"
            yield StateChange("announcement", name, NEW, words)
        elif after is None:
            yield StateChange("announcement", name, REMOVED, f"{called} is removed")
        elif before is not None:
            yield from _fields("announcement", name, called, before, after)


def _fields(
    kind: SubjectKind, subject: str, called: str, old: Model, new: Model
) -> Iterator[StateChange]:
    if old is new:
        return
    for field, in_file in type(new).names_in_file().items():
        before, after = getattr(old, field), getattr(new, field)
        if _comparable(before) == _comparable(after):
            continue
        if isinstance(old, User) and field == "keys":
            yield from _user_keys(subject, before, after)
        elif isinstance(old, Fleet) and field == "signers":
            yield from _signers(before, after)
        else:
            title = _FIELD_TITLES.get(field, in_file)
            words = f"{called}: {title} {_words(before)} -> {_words(after)}"
            yield StateChange(kind, subject, field, words)


def _user_keys(
    name: str, old: tuple[PublicKey, ...], new: tuple[PublicKey, ...]
) -> Iterator[StateChange]:
    earlier = {key: key.comment for key in old}
    for key in old:
        if key not in new:
            words = f"{name}: remove SSH key {_key(key)}"
            yield StateChange("user", name, "keys", words)
    yield from _added_keys(name, tuple(key for key in new if key not in earlier))
    for key in new:
        if key.comment != earlier.get(key, key.comment):
            words = f"{name}: SSH key {key.fingerprint} is now called {key.comment or 'nothing'}"
            yield StateChange("user", name, "keys", words)
    if set(old) == set(new) and old != new:
        yield StateChange("user", name, "keys", f"{name}: SSH keys in another order")


def _added_keys(name: str, keys: tuple[PublicKey, ...]) -> Iterator[StateChange]:
    for key in keys:
        yield StateChange("user", name, "keys", f"{name}: add SSH key {_key(key)}")


def _signers(old: tuple[Any, ...], new: tuple[Any, ...]) -> Iterator[StateChange]:
    earlier, later = ({(s.name, s.role, str(s.key)): s for s in each} for each in (old, new))
    for gone, signer in earlier.items():
        if gone not in later:
            yield _signer("remove", signer)
    for added, signer in later.items():
        if added not in earlier:
            yield _signer("add", signer)
    if earlier.keys() == later.keys():
        yield StateChange("fleet", "", "signers", "fleet: signers in another order")


def _signer(verb: str, signer: Any) -> StateChange:
    words = f"fleet: {verb} signer {signer.name} ({signer.role}), {_key(signer.key)}"
    return StateChange("fleet", "", "signers", words)


def _key(key: PublicKey) -> str:
    return f"{key.fingerprint} ({key.comment})" if key.comment else key.fingerprint


_FIELD_TITLES = {"host_key": "ssh host key", "state_key": "state key", "ssh_port": "ssh port"}


def _comparable(value: Any) -> Any:
    """`value` for a comparison that includes comments of keys."""
    if isinstance(value, PublicKey):
        return str(value)
    return tuple(_comparable(each) for each in value) if isinstance(value, tuple) else value


def _words(value: Any) -> str:
    if value is None or value == ():
        return "none"
    if isinstance(value, tuple):
        return ", ".join(_words(each) for each in value)
    if isinstance(value, PublicKey):
        return value.fingerprint
    if isinstance(value, Model):
        return " ".join(
            f"{name} {_words(getattr(value, name))}" for name in type(value).model_fields
        )
    return str(value)
