"""People, as the monitor names them: by their full name, whatever a server calls them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from state.model.documents import State, User
from state.wire.server_load import SYSTEM


@dataclass(frozen=True)
class NamedPerson:
    """Somebody."""

    user: str
    """As the server says it."""
    name: str
    """The full name; of who isn't in the state, the account's name."""
    known: bool
    """Whether there is a page about them."""


class People:
    """Everybody in a state."""

    def __init__(self, state: State) -> None:
        self._former: Mapping[str, User] = state.former
        self._users: Mapping[str, User] = state.users

    def named(self, user: str) -> NamedPerson:
        """The person whom a server calls `user`."""
        found = self._users.get(user) or self._former.get(user)
        if found is not None:
            return NamedPerson(user, found.name, True)
        return NamedPerson(user, "the system" if user == SYSTEM else user, False)

    def called(self, word: str) -> str:
        """The user whose name, login or full name `word` is; `word` itself if there is none."""
        wanted = word.casefold()
        for name, user in {**self._former, **self._users}.items():
            if wanted in (name, user.login.casefold(), user.name.casefold()):
                return name
        return word
