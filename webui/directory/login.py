"""Checks a login and a password with the directory.

- What a person types is escaped in filters and names.
- An empty password is never sent: servers answer "success" to it (RFC 4513, 5.1.2).
- Exactly one entry must match, and its person must be the one who was bound.
- `allow` and `allow_groups` must let the person in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ldap3.utils.conv import escape_bytes
from ldap3.utils.dn import escape_rdn

from state.errors import Remedy
from webui.config import DirectoryConfig
from webui.directory.entries import LdapEntry, directory_id, parts_of, printable
from webui.directory.groups import allowed
from webui.directory.logins import Domains, Typed, meant, read, search_for
from webui.directory.searches import Searches
from webui.directory.transport.connections import (
    Connections,
    NotAllowedError,
    Reached,
    WrongLoginError,
    wrong,
)

LONGEST_PASSWORD = 1024
_MOST_MEANT = 10
"""Entries that are read for one login; `meant` chooses among them."""


class ForeignLoginError(WrongLoginError):
    """The login names a domain that isn't ours."""


@dataclass(frozen=True)
class DirectoryPerson:
    """A person as the directory describes them."""

    login: str
    """In the directory's spelling, not as it was typed."""
    full_name: str
    directory_id: str | None
    mail: str


@dataclass(frozen=True)
class Try:
    """One attempt to log in."""

    typed: Typed
    password: str
    found: Callable[[str], bool]
    """Gets the login of the person who was found; returns whether to try the password."""


def authenticate(
    config: DirectoryConfig,
    connections: Connections,
    login: str,
    password: str,
    found: Callable[[str], bool],
) -> DirectoryPerson:
    """The person with this login and password.

    WrongLoginError, NotAllowedError or DirectoryDownError if nobody is let in. `found` gets the
    person's login before the password is tried, if the person is known by then. If it returns
    False, the password isn't tried, and the result is that of a wrong password.
    """
    typed = read(login)
    if typed is None or not 0 < len(password) <= LONGEST_PASSWORD:
        raise wrong("not sent: no possible login, or an empty or overlong password")
    way = _by_template if config.bind_template else _by_search
    one = Try(typed, password, found)
    return connections.reached(lambda server: way(config, connections, server, one))


def _by_search(
    config: DirectoryConfig, connections: Connections, server: Reached, this: Try
) -> DirectoryPerson:
    with connections.service(server) as service:
        searches = Searches(service, config)
        domains = domains_for(searches, this.typed)
        if this.typed.domain and not domains.know(this.typed):
            raise _foreign(this.typed, "no such domain")
        try:
            entry = _the_one(find(searches, this.typed, domains), connections, server, this)
            if not this.found(entry.text(config.login_attribute)):
                connections.refused(server, this.password)
                raise wrong(f"{entry.dn} has to wait after wrong tries: the password was not tried")
            with connections.bound(server, entry.dn, this.password) as own:
                if same_sid(Searches(own, config), entry) is False:
                    raise _somebody_else(searches, Searches(own, config), this.typed, entry)
        except WrongLoginError as error:
            raise _in_words(this.typed, domains, error) from error
        return _let_in(searches, entry)


def _the_one(
    found: list[LdapEntry], connections: Connections, server: Reached, this: Try
) -> LdapEntry:
    if len(found) != 1:
        connections.refused(server, this.password)
        raise wrong(f"{len(found)} entries match the login")
    return found[0]


def _by_template(
    config: DirectoryConfig, connections: Connections, server: Reached, this: Try
) -> DirectoryPerson:
    if this.typed.domain and "=" in config.bind_template:
        raise _foreign(this.typed, "a distinguished name has no such domain")
    domains = Domains()
    try:
        if config.bind_dn and (this.typed.domain or this.typed.suffix):  # who isn't bound can't ask
            with connections.service(server) as service:
                domains = domains_for(Searches(service, config), this.typed)
        with connections.bound(server, bind_name(config, this.typed), this.password) as own:
            searches = Searches(own, config)
            domains = domains_for(searches, this.typed)
            entries = find(searches, this.typed, domains)
            if len(entries) != 1:
                raise wrong(f"{len(entries)} entries match the login")
            _make_sure(searches, this.typed, entries[0])
            return _let_in(searches, entries[0])
    except WrongLoginError as error:
        raise _in_words(this.typed, domains, error) from error


def bind_name(config: DirectoryConfig, typed: Typed) -> str:
    """The name to bind with: the template filled in, or a login that has its domain with it."""
    template = config.bind_template
    if "=" in template:
        return template.replace("{login}", escape_rdn(typed.alone))
    return typed.whole if typed.domain or typed.suffix else template.replace("{login}", typed.whole)


def domains_for(searches: Searches, typed: Typed) -> Domains:
    """The directory's domains, asked for only where a login names one."""
    return searches.domains() if typed.domain or typed.suffix else Domains()


def find(searches: Searches, typed: Typed, domains: Domains) -> list[LdapEntry]:
    """The entries that `typed` means, by one search, whether or not they exist."""
    names = searches.config
    wanted = search_for(names.login_attribute, typed)
    found = searches.below(names.base, wanted, most=_MOST_MEANT)
    return meant(found, names.login_attribute, typed, domains)


def same_sid(own: Searches, entry: LdapEntry) -> bool | None:
    """Whether the SID of `entry` is the one bound in `own`; None if there is nothing to compare.

    This is enough if the bind was made with the name of `entry`.
    """
    sid = entry.attributes.get("objectsid")
    token = own.token() if sid else []
    if not sid or not token or (token[0] != sid[0] and sid[0] in token):
        return None
    return token[0] == sid[0]


def is_bound(own: Searches, entry: LdapEntry) -> bool | None:
    """Whether the person of `entry` is the one bound in `own`; None if the server doesn't tell.

    A right password proves that somebody was bound, not who. Active Directory reads
    jsmith@mylab.com as a principal name first, and only then as the login jsmith
    (MS-ADTS 5.1.1.1.1).
    """
    same = same_sid(own, entry)
    if same is not None:
        return same
    said = own.who_am_i()
    if said.startswith("dn:"):
        return parts_of(said.removeprefix("dn:")) == parts_of(entry.dn)
    domain, slash, name = said.removeprefix("u:").partition("\\")
    place = own.domains().of(entry.dn) if slash else None
    if place is None:
        return None
    here = (place.netbios.casefold(), entry.text("sAMAccountName").casefold())
    return (domain.casefold(), name.casefold()) == here


def _make_sure(own: Searches, typed: Typed, entry: LdapEntry) -> None:
    """Raise NotAllowedError unless the person of `entry` is known to be the one bound."""
    bound = is_bound(own, entry)
    if bound is None:
        raise NotAllowedError(
            "login-unclear",
            "The directory accepts your password, but doesn't say whose it is: you can't log in.",
            "Tell your sysadmin: the page needs a service account (`bind_dn` in web.toml).",
            details=f"bound by bind_template; found {entry.dn}; neither tokenGroups nor who am I",
        )
    if not bound:
        raise _somebody_else(own, own, typed, entry)


def _somebody_else(
    searches: Searches, own: Searches, typed: Typed, entry: LdapEntry
) -> NotAllowedError:
    """The error if somebody else was bound. That person is allowed to read their own login."""
    token, said = own.token(), own.who_am_i()
    base, anything = searches.config.base, "(objectClass=*)"
    mine = (
        searches.below(base, f"(objectSid={escape_bytes(token[0])})", most=2)
        if token
        else searches.itself(said.removeprefix("dn:"), anything)
        if said.startswith("dn:")
        else []
    )
    login = mine[0].text(searches.config.login_attribute) if len(mine) == 1 else ""
    who = mine[0].dn if mine else said or "nobody who is known"
    return NotAllowedError(
        "login-of-other",
        f"To the directory, `{typed.whole}` with this password is another person than the one"
        " who has that login.",
        f"Your login is `{login}`: type that one." if login else
        "Type your login as the directory spells it, or ask your sysadmin.",
        details=f"found {entry.dn}, bound as {who}",
    )  # fmt: skip


def _in_words(typed: Typed, domains: Domains, error: WrongLoginError) -> WrongLoginError:
    """The message for a wrong login. It depends only on what was typed, not on who exists.

    The suffix of a principal name need not be listed anywhere.
    """
    known = not domains.all or domains.know(typed)
    if typed.domain and not known:
        return _foreign(typed, error.details)
    if not typed.domain and not typed.suffix:
        return error
    why = ""
    if not known:
        why = f"`{typed.suffix}` isn't a domain of the directory, so "
    elif not domains.all and typed.domain:
        why = f"`{typed.domain}` may not be a domain of the directory, so "
    return wrong(error.details, f"; {why}perhaps `{typed.name}` alone")


def _foreign(typed: Typed, details: str) -> ForeignLoginError:
    return ForeignLoginError(
        "login-foreign",
        f"`{typed.whole}` belongs to another domain: `{typed.domain}` isn't known here.",
        f"Type your login alone, such as `{typed.name}`.",
        Remedy.RETRY,
        details,
    )


def _let_in(searches: Searches, entry: LdapEntry) -> DirectoryPerson:
    if not allowed(searches, entry):
        raise NotAllowedError(
            "login-not-allowed",
            "Your password is right, but you aren't among those who may use the GPU servers.",
            "Ask your sysadmin to let you in.",
            details=f"{entry.dn} is outside `allow` or `allow_groups`",
        )
    names = searches.config
    login = entry.text(names.login_attribute)
    return DirectoryPerson(
        login=login,
        full_name=printable(entry.text(names.name_attribute)) or login,
        directory_id=directory_id(entry.attributes.get(names.id_attribute.lower())),
        mail=printable(entry.text(names.mail_attribute)),
    )
