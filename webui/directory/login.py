"""Somebody logs in.

What a person types never reaches a filter or a name unescaped, an empty password never reaches a
server at all (RFC 4513, 5.1.2: servers answer "success" to it), exactly one entry must match, and
nobody gets in whom `allow` doesn't let in.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ldap3.utils.dn import escape_rdn

from webui.config import DirectoryConfig
from webui.directory.connections import Connections, NotAllowedError, Reached, wrong
from webui.directory.entries import Entry, directory_id, printable
from webui.directory.groups import allowed
from webui.directory.searches import Searches

LOGIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@-]{0,63}", re.ASCII)
"""Logins that we ask a directory about; anything else is no login anywhere."""

LONGEST_PASSWORD = 1024


@dataclass(frozen=True)
class Person:
    """Who somebody is, as the directory says."""

    login: str
    """As the directory spells it, not as it was typed."""
    full_name: str
    directory_id: str | None
    mail: str


def authenticate(
    config: DirectoryConfig, connections: Connections, login: str, password: str
) -> Person:
    """Who logs in with these. WrongLoginError, NotAllowedError or DirectoryDownError."""
    if not LOGIN.fullmatch(login) or not 0 < len(password) <= LONGEST_PASSWORD:
        raise wrong("not sent: no possible login, or an empty or overlong password")
    way = _by_template if config.bind_template else _by_search
    return connections.reached(lambda server: way(config, connections, server, login, password))


def _by_search(
    config: DirectoryConfig, connections: Connections, server: Reached, login: str, password: str
) -> Person:
    with connections.service(server) as service:
        searches = Searches(service, config)
        entries = searches.with_login(login)
        if len(entries) != 1:
            connections.refused(server, password)
            raise wrong(f"{len(entries)} entries match the login")
        with connections.bound(server, entries[0].dn, password):
            pass
        return _let_in(searches, entries[0])


def _by_template(
    config: DirectoryConfig, connections: Connections, server: Reached, login: str, password: str
) -> Person:
    template = config.bind_template
    escaped = escape_rdn(login) if "=" in template else login
    with connections.bound(server, template.replace("{login}", escaped), password) as own:
        searches = Searches(own, config)
        entries = searches.with_login(login)
        if len(entries) != 1:
            raise wrong(f"{len(entries)} entries match the login")
        return _let_in(searches, entries[0])


def _let_in(searches: Searches, entry: Entry) -> Person:
    if not allowed(searches, entry):
        raise NotAllowedError(
            "login-not-allowed",
            "Your password is right, but you are not among those who may use the GPU servers.",
            "Ask your sysadmin to let you in.",
            details=f"{entry.dn} is outside `allow` or `allow_groups`",
        )
    names = searches.config
    login = entry.text(names.login_attribute)
    return Person(
        login=login,
        full_name=printable(entry.text(names.name_attribute)) or login,
        directory_id=directory_id(entry.attributes.get(names.id_attribute.lower())),
        mail=printable(entry.text(names.mail_attribute)),
    )
