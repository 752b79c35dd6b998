"""Whose page is at an address, and which name a newcomer will get. Pure."""

from __future__ import annotations

from state.edits.users import name_of
from state.errors import LxcGpuError
from state.model.documents import State
from state.model.names import propose_name
from webui.directory.login import DirectoryPerson
from webui.directory.logins import read


class OtherPageError(LxcGpuError):
    """The form belongs to another page than that of the person who logged in, which is `name`."""

    def __init__(self, name: str, login: str, message: str, hint: str) -> None:
        self.name, self.login = name, login
        super().__init__("page-of-other", message, hint)


class NewNameError(LxcGpuError):
    """A newcomer will get another name than the page said: `name`."""

    def __init__(self, name: str, login: str) -> None:
        self.name = name
        super().__init__(
            "new-name",
            f"Your account will get another name than this page said: `{name}`.",
            f"It is made from your login in the directory, `{login}`, so that nobody else has it."
            " If you agree, type your password and save again.",
        )


def owner_of(state: State, address: str) -> str | None:
    """The user whose page is at `address`: their name or login, with or without its domain."""
    lower = address.lower()
    if lower in state.users or lower in state.former:
        return lower
    return name_of(state, address) or by_login(state, address)


def by_login(state: State, typed: str) -> str | None:
    """The name of the user with this login, typed with or without its domain."""
    login = read(typed)
    if login is None:
        return None
    alone = name_of(state, login.alone)
    if alone is not None or not login.suffix:
        return alone
    return name_of(state, login.name)


def proposed(state: State, typed: str) -> str:
    """The name that a newcomer with this login would get."""
    login = read(typed)
    name = typed if login is None else login.alone
    return propose_name(name, {*state.users, *state.former}, state.fleet.account_prefix)


def refuse_other_page(state: State, page: str, own: str | None, person: DirectoryPerson) -> None:
    """Raise OtherPageError unless the page at `page` is that of `person`, who is the user `own`."""
    owner = owner_of(state, page)
    if own == owner:
        return
    if own is None:
        name = proposed(state, person.login)
        raise OtherPageError(
            name,
            person.login,
            f"This is the page of {owner}, who isn't you, but perhaps had your login before you."
            f" You, {person.login}, have no account yet. Its name will be `{name}`.",
            f"Your page is /user/{name}: paste your key there.",
        )
    raise OtherPageError(
        own,
        person.login,
        f"You logged in as {person.login}, but this page doesn't show your keys.",
        f"Your page is /user/{own}: change your keys there, so that none gets lost.",
    )


def refuse_other_name(state: State, promised: str, person: DirectoryPerson) -> None:
    """Raise NewNameError if a newcomer gets another name than the page `promised`."""
    name = proposed(state, person.login)
    if promised and promised != name:
        raise NewNameError(name, person.login)
