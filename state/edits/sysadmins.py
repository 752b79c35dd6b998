"""Edits that sysadmins make: users by hand, servers, registrations taken away, announcements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from state.edits.allocate import allocate
from state.edits.edit import Edit
from state.edits.users import name_of, remove_key, valid_user
from state.errors import LxcGpuError
from state.model.announcements import Announcement
from state.model.documents import Server, State
from state.model.keys import PublicKey
from state.model.names import propose_name


def add_user(login: str, full_name: str, keys: Sequence[PublicKey]) -> Edit:
    """A user whom the web page has not seen yet, with the next numbers."""

    def apply(state: State) -> State:
        if (known := name_of(state, login)) is not None:
            raise LxcGpuError(
                "user-exists",
                f"The login {login} is that of {known}, who {_whereabouts(state, known)}.",
                f"lxc-gpu user show {known}",
            )
        numbers = allocate(state)
        name = propose_name(login, {*state.users, *state.former}, state.fleet.account_prefix)
        fields = {"name": full_name, "login": login, "keys": tuple(dict.fromkeys(keys))}
        user = valid_user({**fields, **vars(numbers)}, login)
        return replace(state, users=dict(sorted({**state.users, name: user}.items())))

    return Edit(apply)


def drop_key(name: str, fingerprint: str) -> Edit:
    """Remove a key of the user `name`. LxcGpuError if there is no such key."""
    removal = remove_key(name, fingerprint)

    def apply(state: State) -> State:
        user = state.users.get(name)
        if user is not None and fingerprint not in (key.fingerprint for key in user.keys):
            known = ", ".join(key.fingerprint for key in user.keys) or "none"
            raise LxcGpuError(
                "unknown-key", f"{name} has no key {fingerprint}.", f"The keys of {name}: {known}"
            )
        return removal.apply(state)

    return Edit(apply)


def add_server(name: str, server: Server) -> Edit:
    """Add the server `name`, or replace what is said about it."""

    def apply(state: State) -> State:
        servers = dict(sorted({**state.servers, name: server}.items()))
        return replace(state, servers=servers)

    return Edit(apply)


def remove_registration(server: str, user: str) -> Edit:
    """Take a registration away: the user is disabled on that server, nothing is deleted."""

    def apply(state: State) -> State:
        there = state.registrations.get(server, {})
        if user not in there:
            raise LxcGpuError(
                "not-registered",
                f"{user} is not registered on {server}.",
                f"On {server} are: {', '.join(there) or 'nobody'}.",
            )
        rest = {name: each for name, each in there.items() if name != user}
        return replace(state, registrations={**state.registrations, server: rest})

    return Edit(apply)


def announce(name: str, announcement: Announcement) -> Edit:
    """Add an announcement, or replace it."""

    def apply(state: State) -> State:
        announcements = dict(sorted({**state.announcements, name: announcement}.items()))
        return replace(state, announcements=announcements)

    return Edit(apply)


def end_announcement(name: str) -> Edit:
    """Remove an announcement."""

    def apply(state: State) -> State:
        if name not in state.announcements:
            known = ", ".join(state.announcements) or "none"
            raise LxcGpuError(
                "no-announcement", f"There is no announcement {name}.", f"There are: {known}."
            )
        rest = {other: each for other, each in state.announcements.items() if other != name}
        return replace(state, announcements=rest)

    return Edit(apply)


def _whereabouts(state: State, name: str) -> str:
    return "is a user" if name in state.users else "has left"
