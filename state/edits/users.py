"""The edits that users and the directory ask for.

Each function here returns an `Edit`; `state.git.publish` applies it to the newest revision, and
once more when somebody else was faster, so numbers are allocated inside. They raise LxcGpuError,
worded for the person who asked, and leave a state that needs no change as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from pydantic import ValidationError

from state.edits.allocate import allocate
from state.edits.edit import Edit
from state.errors import LxcGpuError
from state.model.documents import Registration, State, User
from state.model.keys import PublicKey
from state.model.names import propose_name
from state.words import printable

T = TypeVar("T")

MOST_KEYS = 50
"""Keys of one user; nobody needs more."""


class KeyTakenError(LxcGpuError):
    """A key that belongs to another user, who is named in the details only."""


def name_of(state: State, login: str, directory_id: str | None = None) -> str | None:
    """The name of the present or former user with this directory id, or else with this login."""
    people = {**state.former, **state.users}
    if directory_id is not None:
        for name, user in people.items():
            if user.directory_id is not None and _same(user.directory_id, directory_id):
                return name
    return next((name for name, user in people.items() if _same(user.login, login)), None)


def save_keys(
    login: str,
    full_name: str,
    directory_id: str | None,
    keys: Sequence[PublicKey],
    proven: Collection[PublicKey] = (),
    check: Callable[[State, str | None], None] = lambda state, name: None,
) -> Edit:
    """Set all keys of the person whom the directory knows as `login`, who proved to be that person.

    A new person gets a name and numbers, and must give a key. Somebody who had left returns with
    the old ones. The full name and the login's spelling follow the directory. A different
    `directory_id` under a known login is refused: that is another person.

    Keys in `proven`, which the person showed to be theirs, are taken from other users who saved
    them: a public key isn't a secret. `check` gets the state and the person's name there, and may
    raise an error.
    """
    theirs = frozenset(keys) & frozenset(proven)

    def user(state: State) -> str | None:
        return name_of(state, login, directory_id)

    def apply(given: State) -> State:
        name = user(given)
        check(given, name)
        state = _taken_from_others(given, name, theirs)
        if name is None:
            return _arrive(state, login, full_name, directory_id, keys)
        known = _same_person(state, name, login, directory_id)
        changed = _person(
            known,
            name=_passwd_text(full_name) or known.name,
            login=login,
            directory_id=directory_id or known.directory_id,
            keys=_own_keys(state, name, keys),
        )
        _refuse_taken_login(state, name, login)
        return _here(state, name, changed)

    shown = ", ".join(sorted(key.fingerprint for key in theirs))
    return Edit(apply, f"Shown to be theirs by a signature: {shown}" if shown else "", user)


def set_keys(name: str, keys: Sequence[PublicKey]) -> Edit:
    """Replace all keys of the user `name` by `keys`."""

    def apply(state: State) -> State:
        user = _known(state, name)
        return _here(state, name, _person(user, keys=_own_keys(state, name, keys)))

    return Edit(apply)


def add_key(name: str, key: PublicKey) -> Edit:
    """Add `key` to the keys of the user `name`; one that is there already stays as it is."""

    def apply(state: State) -> State:
        keys = _known(state, name).keys
        return state if key in keys else set_keys(name, (*keys, key)).apply(state)

    return Edit(apply)


def remove_key(name: str, fingerprint: str) -> Edit:
    """Remove the key with this fingerprint (`SHA256:...`) from the user `name`."""

    def apply(state: State) -> State:
        keys = _known(state, name).keys
        kept = tuple(key for key in keys if key.fingerprint != fingerprint)
        return set_keys(name, kept).apply(state)

    return Edit(apply)


def register(server: str, user: str, host_key: PublicKey) -> Edit:
    """Note that `user` has a container on `server`, and its ssh host key.

    Only for users with a key: nobody else can log in there.
    """

    def apply(state: State) -> State:
        if not _known(state, user).keys:
            raise LxcGpuError(
                "user-without-keys",
                f"{user} has no ssh key, so nobody can register for {user}.",
                "Save a key on the web page first.",
            )
        if server not in state.servers:
            raise LxcGpuError(
                "unknown-server",
                f"There is no server {server}.",
                f"Known are: {', '.join(state.servers) or 'none'}.",
            )
        there = state.registrations.get(server, {})
        before = there.get(user)
        registration = (
            Registration(host_key=host_key)
            if before is None
            else before.model_copy(update={"host_key": host_key})
        )
        users = _in_order({**there, user: registration})
        return replace(state, registrations=_in_order({**state.registrations, server: users}))

    return Edit(apply)


def disable(name: str) -> Edit:
    """Disable `name`: the file moves to former/, the numbers stay taken, nothing is deleted."""

    def apply(state: State) -> State:
        if name in state.former:
            return state
        user = _known(state, name)
        users = {n: u for n, u in state.users.items() if n != name}
        return replace(state, users=users, former=_in_order({**state.former, name: user}))

    return Edit(apply)


def enable(name: str) -> Edit:
    """Enable `name`, who had left, with the same numbers and keys."""

    def apply(state: State) -> State:
        user = state.users.get(name) or state.former.get(name)
        if user is None:
            raise _unknown(state, name)
        return _here(state, name, _person(user, keys=_own_keys(state, name, user.keys)))

    return Edit(apply)


def rename_person(name: str, full_name: str, login: str | None = None) -> Edit:
    """Set the full name (and the login's spelling) of the user `name` as in the directory."""

    def apply(state: State) -> State:
        user = _known(state, name)
        spelled = login or user.login
        _refuse_taken_login(state, name, spelled)
        changed = _person(user, name=_passwd_text(full_name) or user.name, login=spelled)
        return _here(state, name, changed)

    return Edit(apply)


def follow_logins(logins: Mapping[str, str]) -> Edit:
    """Set the logins of these present or former users as in the directory, all at once."""

    def apply(state: State) -> State:
        def followed(users: Mapping[str, User]) -> dict[str, User]:
            return {n: _person(u, login=logins[n]) if n in logins else u for n, u in users.items()}

        changed = replace(state, users=followed(state.users), former=followed(state.former))
        for name, login in logins.items():
            _refuse_taken_login(changed, name, login)
        return changed if logins else state

    return Edit(apply)


def _arrive(
    state: State,
    login: str,
    full_name: str,
    directory_id: str | None,
    keys: Sequence[PublicKey],
) -> State:
    name = propose_name(login, {*state.users, *state.former}, state.fleet.account_prefix)
    if not keys:
        raise LxcGpuError(
            "no-key",
            "A first visit needs an SSH public key; none was given.",
            "Paste what `cat ~/.ssh/id_ed25519.pub` prints; `ssh-keygen -t ed25519` makes a key.",
        )
    numbers = allocate(state)
    fields: dict[str, object] = {
        "name": _passwd_text(full_name) or name,
        "login": login,
        "directory_id": directory_id,
        "uid": numbers.uid,
        "port": numbers.port,
        "subid": numbers.subid,
        "keys": _own_keys(state, name, keys),
    }
    return _here(state, name, valid_user(fields, login))


def _here(state: State, name: str, user: User) -> State:
    """`state` with `user` in users/ under `name`, and no longer in former/."""
    former = {n: u for n, u in state.former.items() if n != name}
    return replace(state, users=_in_order({**state.users, name: user}), former=former)


def _person(user: User, **fields: object) -> User:
    return valid_user({**dict(iter(user)), **fields}, user.login)


def valid_user(fields: Mapping[str, object], login: str) -> User:
    """A user made of `fields`. Data of the directory is checked like that of a file."""
    from state.reading.wording import broken_rules

    try:
        return User.model_validate(fields)
    except ValidationError as error:
        said = "; ".join(rule.message for rule in broken_rules("", User, error))
        raise LxcGpuError(
            "bad-person",
            f"What the directory says about {login!r} can't be taken over: {said}.",
            "Ask your sysadmin to correct the entry in the directory.",
        ) from error


def _own_keys(state: State, name: str, keys: Sequence[PublicKey]) -> tuple[PublicKey, ...]:
    """`keys` without duplicates; the user's existing ones first, in their order.

    LxcGpuError if one belongs to another user, a signer or a server.
    """
    given = {key: key for key in reversed(keys)}
    user = state.users.get(name) or state.former.get(name)
    before = [given.pop(key) for key in (user.keys if user else ()) if key in given]
    own = (*before, *(key for key in dict.fromkeys(keys) if key in given))
    if len(own) > MOST_KEYS:
        raise LxcGpuError("too-many-keys", f"At most {MOST_KEYS} keys, please; got {len(own)}.")
    mine = set(own)
    for other, user in state.users.items():
        if other != name and (shared := mine.intersection(user.keys)):
            raise _taken(next(iter(shared)), other, KeyTakenError)
    for signer in state.fleet.signers:
        if signer.key in mine:
            raise _taken(signer.key, f"signer {signer.name}")
    for server_name, server in state.servers.items():
        for key in (server.host_key, server.state_key):
            if key in mine:
                raise _taken(key, f"server {server_name}")
    return own


def _taken(key: PublicKey, owner: str, kind: type[LxcGpuError] = LxcGpuError) -> LxcGpuError:
    return kind(
        "key-taken",
        f"The key {key.fingerprint} is somebody else's already.",
        "A key belongs to one person. Make another one: `ssh-keygen -t ed25519`.",
        details=f"{key.fingerprint} is a key of {owner}",
    )


def _taken_from_others(state: State, name: str | None, keys: Collection[PublicKey]) -> State:
    """`state` in which no other user has any of these keys."""
    for other, user in state.users.items() if keys else ():
        if other != name and (kept := tuple(k for k in user.keys if k not in keys)) != user.keys:
            state = _here(state, other, _person(user, keys=kept))
    return state


def _same_person(state: State, name: str, login: str, directory_id: str | None) -> User:
    """The user `name`, if that is still the person who has the login."""
    known = state.users.get(name) or state.former[name]
    if known.directory_id and directory_id and not _same(known.directory_id, directory_id):
        raise LxcGpuError(
            "person-differs",
            f"The directory's {login} is not the person who has been {name} here.",
            "A new person got an old login. Ask your sysadmin, who can see this in"
            f" users/{name}.yaml or former/{name}.yaml (directory_id).",
            details=f"known as {known.directory_id}, now {directory_id}",
        )
    return known


def _refuse_taken_login(state: State, name: str, login: str) -> None:
    for other, user in {**state.former, **state.users}.items():
        if other != name and _same(user.login, login):
            raise LxcGpuError(
                "login-taken",
                f"The login {login} of {name} is also noted for {other}.",
                f"Ask your sysadmin: in the state, the login of {other} must be corrected.",
            )


def _known(state: State, name: str) -> User:
    if name not in state.users:
        raise _unknown(state, name)
    return state.users[name]


def _unknown(state: State, name: str) -> LxcGpuError:
    if name in state.former:
        return LxcGpuError("user-left", f"{name} has left.", "A sysadmin can undo that.")
    return LxcGpuError(
        "unknown-user",
        f"There is no user {name}.",
        "Saving an SSH key on the web page creates the user.",
    )


def _passwd_text(full_name: str) -> str:
    """`full_name` as passwd(5) can hold it: no colons or control characters, not too long."""
    text = printable(full_name, " ", without=":")
    return " ".join(text.split())[:200].strip()


def _same(one: str, other: str) -> bool:
    return one.casefold() == other.casefold()


def _in_order(named: Mapping[str, T]) -> dict[str, T]:
    return dict(sorted(named.items()))
