"""The directory: OpenLDAP or Active Directory, as the configuration describes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from state.model.documents import User
from webui.config import DirectoryConfig
from webui.directory import everybody, login
from webui.directory.entries import search_id
from webui.directory.everybody import LookupResult
from webui.directory.login import DirectoryPerson
from webui.directory.searches import Searches
from webui.directory.transport.connections import Connections, Reached


class Directory:
    """Any number of threads may use it; they share what was learnt of its servers."""

    def __init__(self, config: DirectoryConfig) -> None:
        self._config = config
        self._connections = Connections(config)

    def authenticate(
        self, name: str, password: str, found: Callable[[str], bool] = lambda login: True
    ) -> DirectoryPerson:
        """Who logs in with these. WrongLoginError, NotAllowedError or DirectoryDownError.

        `found` is told the person's login before the password is tried, and whether to try it is
        its answer.
        """
        return login.authenticate(self._config, self._connections, name, password, found)

    def login_of(self, known_id: str) -> str:
        """The login by now of whom the directory knows by this id; empty if nobody has it."""
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
        """In which of `groups` (names, with their DNs) each of `users` is; asked in the same way.

        Who can't be told is left out. LxcGpuError if a group isn't there.
        """

        def ask(server: Reached) -> dict[str, tuple[str, ...]]:
            with self._connections.service(server) as service:
                return everybody.groups_of(Searches(service, self._config), users, groups)

        return self._connections.reached(ask, people=len(users) * len(groups))

    def look_up_all(self, users: Mapping[str, User]) -> dict[str, LookupResult]:
        """What the directory says about each of `users`, asked by the service account.

        DirectoryDownError if it doesn't answer all of them: half an answer is none.
        """

        def ask(server: Reached) -> dict[str, LookupResult]:
            with self._connections.service(server) as service:
                return everybody.look_up(Searches(service, self._config), users)

        return self._connections.reached(ask, people=len(users))
