"""Edits that follow the directory: new full names, and people who are gone from it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import suppress

from state.edits.edit import Edit
from state.edits.users import disable, rename_person
from state.errors import LxcGpuError
from state.model.documents import State


def follow_names(names: Mapping[str, str]) -> Edit:
    """Set the full names of the users in `names`; a name that isn't valid is left out."""
    return _each([rename_person(user, full_name).apply for user, full_name in names.items()])


def disable_all(users: Collection[str], note: str) -> Edit:
    """Disable all these users; those who left meanwhile cause no error."""
    return _each([disable(user).apply for user in users], note)


def _each(steps: Collection[Callable[[State], State]], note: str = "") -> Edit:
    def apply(state: State) -> State:
        for step in steps:
            with suppress(LxcGpuError):
                state = step(state)
        return state

    return Edit(apply, note)
