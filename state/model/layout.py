"""Which file of a state repository says what: from paths to names, and back."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal, NamedTuple

from state.model.announcements import Announcement
from state.model.documents import NAME, SERVER_NAME, Fleet, Registration, Server, User
from state.model.fields import Model

Kind = Literal["fleet", "servers", "users", "registrations", "former", "announcements"]

MODELS: dict[Kind, type[Model]] = {
    "fleet": Fleet,
    "servers": Server,
    "users": User,
    "registrations": Registration,
    "former": User,
    "announcements": Announcement,
}

FLEET = "fleet.yaml"
_NO_STATE = frozenset({".gitkeep", ".gitignore", "README.md"})
"""Files that may be in our folders and say nothing."""
_SUFFIX = ".yaml"
_NAME_RULE = (
    "must be a lower-case letter or `_`, then at most 30 of a-z, 0-9, `_` and `-`"
    " (it becomes a user's name)"
)
_SERVER_RULE = "must be a DNS name without dots: a-z, 0-9 and `-`, beginning with a letter"


class Subject(NamedTuple):
    """What one file is about. `server` is empty but for a registration; so is `name` for fleet."""

    kind: Kind
    name: str = ""
    server: str = ""

    @property
    def path(self) -> str:
        """The path of the file in the repository."""
        if self.kind == "fleet":
            return FLEET
        folder = f"{self.kind}/{self.server}" if self.server else self.kind
        return f"{folder}/{self.name}{_SUFFIX}"


@lru_cache(maxsize=1 << 16)
def subject_of(path: str) -> Subject | None:
    """What the file at `path` (relative to the repository) is about; None if it isn't ours.

    ValueError, worded for people, for a file that is where only ours may be.
    """
    if path == FLEET:
        return Subject("fleet")
    folder, slash, rest = path.partition("/")
    if folder not in MODELS or folder == "fleet":
        return None
    if not slash:
        raise ValueError("must be a folder")
    *between, file = rest.split("/")
    if file in _NO_STATE:
        return None
    if len(between) != (folder == "registrations"):
        where = "registrations/SERVER/USER.yaml" if folder == "registrations" else f"{folder}/NAME"
        raise ValueError(f"is in the wrong folder; expected {where.removesuffix('.yaml')}.yaml")
    if not file.endswith(_SUFFIX):
        raise ValueError("isn't a file of the state: its name must end in .yaml")
    name = file.removesuffix(_SUFFIX)
    if folder == "servers":
        return Subject("servers", _checked_server(name))
    if folder == "announcements":
        if not SERVER_NAME.fullmatch(name):
            raise ValueError(
                f"the announcement's name `{name}` must be of a-z, 0-9 and `-`, beginning with a"
                " letter"
            )
        return Subject("announcements", name)
    if not NAME.fullmatch(name):
        raise ValueError(f"the name `{name}` {_NAME_RULE}")
    if folder == "registrations":
        return Subject("registrations", name, _checked_server(between[0]))
    return Subject("users" if folder == "users" else "former", name)


def _checked_server(name: str) -> str:
    if not SERVER_NAME.fullmatch(name):
        raise ValueError(f"the server's name `{name}` {_SERVER_RULE}")
    return name
