"""Somebody logs in.

What a person types never reaches a filter or a name unescaped, an empty password never reaches a
server at all (RFC 4513, 5.1.2: servers answer "success" to it), exactly one entry must match, that
entry's person must be the one who was bound, and nobody gets in whom `allow` doesn't let in.
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
"""Entries that one login may match before one of them is chosen."""


class ForeignLoginError(WrongLoginError):
    """A login of another domain."""


@dataclass(frozen=True)
class DirectoryPerson:
    """Who somebody is, as the directory says."""

    login: str
    """As the directory spells it, not as it was typed."""
    full_name: str
    directory_id: str | None
    mail: str


@dataclass(frozen=True)
class Try:
    """One login: what was typed, and whom to tell before the password is tried."""

    typed: Typed
    password: str
    found: Callable[[str], bool]
    """Told the login of the person who was found, who may go by several: whether to go on."""


def authenticate(
    config: DirectoryConfig,
    connections: Connections,
    login: str,
    password: str,
    found: Callable[[str], bool],
) -> DirectoryPerson:
    """Who logs in with these. WrongLoginError, NotAllowedError or DirectoryDownError.

    `found` is told the person's login before the password is tried, if the person is known then.
    If it says no, the password is not tried, and all looks as if it were wrong.
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
    """What a person binds as, by the template; a login with its domain is such a name already."""
    template = config.bind_template
    if "=" in template:
        return template.replace("{login}", escape_rdn(typed.alone))
    return typed.whole if typed.domain or typed.suffix else template.replace("{login}", typed.whole)


def domains_for(searches: Searches, typed: Typed) -> Domains:
    """The directory's domains, asked for only where a login names one."""
    return searches.domains() if typed.domain or typed.suffix else Domains()


def find(searches: Searches, typed: Typed, domains: Domains) -> list[LdapEntry]:
    """Whoever is meant by what was typed. One search, whoever exists."""
    names = searches.config
    wanted = search_for(names.login_attribute, typed)
    found = searches.below(names.base, wanted, most=_MOST_MEANT)
    return meant(found, names.login_attribute, typed, domains)


def same_sid(own: Searches, entry: LdapEntry) -> bool | None:
    """Whether it is the SID of `entry` that is bound by `own`; None if there are none to compare.

    All that is asked of who was bound by the very name of `entry`.
    """
    sid = entry.attributes.get("objectsid")
    token = own.token() if sid else []
    if not sid or not token or (token[0] != sid[0] and sid[0] in token):
        return None
    return token[0] == sid[0]


def is_bound(own: Searches, entry: LdapEntry) -> bool | None:
    """Whether it is the person of `entry` who is bound by `own`; None if nothing says who is.

    A right password says that somebody was bound, not who: Active Directory takes jsmith@mylab.com
    for a principal name before it takes it for the login jsmith (MS-ADTS 5.1.1.1.1).
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
    """NotAllowedError unless it is known that the person of `entry` is bound."""
    bound = is_bound(own, entry)
    if bound is None:
        raise NotAllowedError(
            "login-unclear",
            "The directory takes your password, but doesn't say whose it is, so nobody gets in.",
            "Tell your sysadmin: the page needs a service account (`bind_dn` in web.toml).",
            details=f"bound by bind_template; found {entry.dn}; neither tokenGroups nor who am I",
        )
    if not bound:
        raise _somebody_else(own, own, typed, entry)


def _somebody_else(
    searches: Searches, own: Searches, typed: Typed, entry: LdapEntry
) -> NotAllowedError:
    """It was another one than the found one; who that is may read the own login."""
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
        f"The directory takes `{typed.whole}` with this password for another person than the one"
        " who has that login.",
        f"Your login is `{login}`: type that one." if login else
        "Type your login as the directory spells it, or ask your sysadmin.",
        details=f"found {entry.dn}, bound as {who}",
    )  # fmt: skip


def _in_words(typed: Typed, domains: Domains, error: WrongLoginError) -> WrongLoginError:
    """What to say about a wrong login: depends on what was typed alone, not on who exists.

    A principal name may end in a suffix that is noted nowhere.
    """
    known = not domains.all or domains.know(typed)
    if typed.domain and not known:
        return _foreign(typed, error.details)
    if not typed.domain and not typed.suffix:
        return error
    why = ""
    if not known:
        why = f"`{typed.suffix}` is none of the directory's domains, so "
    elif not domains.all and typed.domain:
        why = f"`{typed.domain}` may be none of the directory's domains, so "
    return wrong(error.details, f"; {why}perhaps `{typed.name}` alone")


def _foreign(typed: Typed, details: str) -> ForeignLoginError:
    return ForeignLoginError(
        "login-foreign",
        f"`{typed.whole}` is of another domain: `{typed.domain}` is none of here.",
        f"Type your login alone, such as `{typed.name}`.",
        Remedy.RETRY,
        details,
    )


def _let_in(searches: Searches, entry: LdapEntry) -> DirectoryPerson:
    if not allowed(searches, entry):
        raise NotAllowedError(
            "login-not-allowed",
            "Your password is right, but you are not among those who may use the GPU servers.",
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
