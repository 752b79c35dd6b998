"""Whose page is at an address, and what a newcomer will be called. Pure."""

from __future__ import annotations

from state.edits.users import name_of
from state.errors import LxcGpuError
from state.model.documents import State
from state.model.names import propose_name
from webui.directory.login import DirectoryPerson
from webui.directory.logins import read


class OtherPageError(LxcGpuError):
    """The form came from a page that isn't that of who logged in; `name` says which one is."""

    def __init__(self, name: str, login: str, message: str, hint: str) -> None:
        self.name, self.login = name, login
        super().__init__("page-of-other", message, hint)


class NewNameError(LxcGpuError):
    """A newcomer will be called otherwise than the page said: `name`."""

    def __init__(self, name: str, login: str) -> None:
        self.name = name
        super().__init__(
            "new-name",
            f"Your account will be called `{name}`, not what stood here before.",
            f"That follows from your login in the directory, `{login}`, and from the names that are"
            " taken. Type your password and save again to agree.",
        )


def owner_of(state: State, address: str) -> str | None:
    """Whose page is meant: by the user's name, else by the login, with a domain or without."""
    lower = address.lower()
    if lower in state.users or lower in state.former:
        return lower
    return name_of(state, address) or by_login(state, address)


def by_login(state: State, typed: str) -> str | None:
    """The name of the user whose login this is, with a domain or without."""
    login = read(typed)
    if login is None:
        return None
    alone = name_of(state, login.alone)
    if alone is not None or not login.suffix:
        return alone
    return name_of(state, login.name)


def proposed(state: State, typed: str) -> str:
    """What a newcomer with this login would be called."""
    login = read(typed)
    name = typed if login is None else login.alone
    return propose_name(name, {*state.users, *state.former}, state.fleet.account_prefix)


def refuse_other_page(state: State, page: str, own: str | None, person: DirectoryPerson) -> None:
    """OtherPageError if the page at the address `page` isn't that of `person`, called `own`."""
    owner = owner_of(state, page)
    if own == owner:
        return
    if own is None:
        name = proposed(state, person.login)
        raise OtherPageError(
            name,
            person.login,
            f"This is the page of {owner}: somebody else's, who perhaps had your login before you."
            f" You, {person.login}, have no account yet. Yours will be called `{name}`.",
            f"Yours is /user/{name}: paste your key there.",
        )
    raise OtherPageError(
        own,
        person.login,
        f"You logged in as {person.login}; the page that shows your keys is another one.",
        f"Yours is /user/{own}: change your keys there, so that none gets lost.",
    )


def refuse_other_name(state: State, promised: str, person: DirectoryPerson) -> None:
    """NewNameError unless a newcomer gets the name that the page `promised`, if it did."""
    name = proposed(state, person.login)
    if promised and promised != name:
        raise NewNameError(name, person.login)
