"""The directory: OpenLDAP or Active Directory, as the configuration describes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from state.model.documents import User
from webui.config import DirectoryConfig
from webui.directory import login, lookup
from webui.directory.entries import search_id
from webui.directory.login import DirectoryPerson
from webui.directory.lookup import LookupResult
from webui.directory.searches import Searches
from webui.directory.transport.connections import Connections, Reached


class Directory:
    """The directory's questions and answers. Thread-safe."""

    def __init__(self, config: DirectoryConfig) -> None:
        self._config = config
        self._connections = Connections(config)

    def authenticate(
        self, name: str, password: str, found: Callable[[str], bool] = lambda login: True
    ) -> DirectoryPerson:
        """The person with this login and password.

        WrongLoginError, NotAllowedError or DirectoryDownError if nobody is let in. `found` gets the
        person's login before the password is tried, and returns whether to try it.
        """
        return login.authenticate(self._config, self._connections, name, password, found)

    def login_of(self, known_id: str) -> str:
        """The present login of the person with this id in the directory; empty if there is none."""
        wanted = search_id(self._config, known_id)
        if not wanted:
            return ""

        def ask(server: Reached) -> str:
            with self._connections.service(server) as service:
                found = Searches(service, self._config).below(self._config.base, wanted, most=2)
            return found[0].text(self._config.login_attribute) if len(found) == 1 else ""

        return self._connections.reached(ask)

    def groups_of(
        self, users: Mapping[str, User], groups: Mapping[str, str]
    ) -> dict[str, tuple[str, ...]]:
        """For each of `users` those of `groups` (DNs by name) that they are in.

        A user whose entry isn't certain is left out. LxcGpuError if a group doesn't exist.
        """

        def ask(server: Reached) -> dict[str, tuple[str, ...]]:
            with self._connections.service(server) as service:
                return lookup.groups_of(Searches(service, self._config), users, groups)

        return self._connections.reached(ask, people=len(users) * len(groups))

    def look_up_all(self, users: Mapping[str, User]) -> dict[str, LookupResult]:
        """What the directory says about each of `users`, as the service account sees it.

        DirectoryDownError unless it answers completely.
        """

        def ask(server: Reached) -> dict[str, LookupResult]:
            with self._connections.service(server) as service:
                return lookup.look_up(Searches(service, self._config), users)

        return self._connections.reached(ask, people=len(users))
