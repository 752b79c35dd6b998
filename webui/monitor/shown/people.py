"""The names under which pages show users of servers. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from state.model.documents import State, User
from state.wire.server_load import SYSTEM


@dataclass(frozen=True)
class NamedPerson:
    """An account of a server, and the person's name."""

    user: str
    """The account's name, as the server gives it."""
    name: str
    """The person's full name; for accounts that aren't in the state, the account's name."""
    known: bool
    """Whether the person has a page."""


class People:
    """All users and former users of a state."""

    def __init__(self, state: State) -> None:
        self._former: Mapping[str, User] = state.former
        self._users: Mapping[str, User] = state.users

    def named(self, user: str) -> NamedPerson:
        """The person with the account `user`."""
        found = self._users.get(user) or self._former.get(user)
        if found is not None:
            return NamedPerson(user, found.name, True)
        return NamedPerson(user, "the system" if user == SYSTEM else user, False)

    def called(self, word: str) -> str:
        """The user with `word` as name, login or full name; `word` itself if there is none."""
        wanted = word.casefold()
        for name, user in {**self._former, **self._users}.items():
            if wanted in (name, user.login.casefold(), user.name.casefold()):
                return name
        return word
