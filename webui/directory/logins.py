"""Logins as people type them. Pure.

`lqchen`, `MYLAB\\lqchen` and `lqchen@mylab.com` mean one person to every Windows machine of a
laboratory, so people type them here, too. Which domains there are, Active Directory says itself.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

from ldap3.utils.conv import escape_filter_chars

from webui.directory.entries import LdapEntry, is_below, parts_of

LONGEST = 128
"""Characters of a login, with its domain."""
PRINCIPAL = "userPrincipalName"
_NEVER = frozenset('"/[]:;|=,+*?<>')
"""What no sAMAccountName holds (Windows: "User name formats"), nor a login of anywhere else."""


@dataclass(frozen=True)
class Typed:
    """A login, taken apart."""

    whole: str
    name: str
    """Without a domain before or behind it."""
    domain: str = ""
    """What stood before a backslash."""
    suffix: str = ""
    """What stood behind the last @."""

    @property
    def alone(self) -> str:
        """What to ask the login attribute for: an @ may belong to it, a backslash doesn't."""
        return self.name if self.domain else self.whole


@dataclass(frozen=True)
class Domain:
    """A domain of Active Directory: a crossRef (MS-ADTS 6.1.1.2.1.1)."""

    dn: str
    netbios: str
    dns: str


@dataclass(frozen=True)
class Domains:
    """Those of the directory; none where it is no Active Directory."""

    all: tuple[Domain, ...] = ()
    suffixes: frozenset[str] = frozenset()
    """Of principal names, beside the domains' own; in lower case."""

    def named(self, netbios: str) -> Domain | None:
        """The domain of this NETBIOS name."""
        same = (d for d in self.all if d.netbios.casefold() == netbios.casefold())
        return next(same, None)

    def of(self, dn: str) -> Domain | None:
        """The domain in which this entry stands."""
        above = [d for d in self.all if is_below(dn, d.dn)]
        return max(above, key=lambda d: len(parts_of(d.dn)), default=None)

    def know(self, typed: Typed) -> bool:
        """Whether what stands before or behind the name is of here."""
        if typed.domain:
            return self.named(typed.domain) is not None
        suffix = typed.suffix.casefold()
        known = self.suffixes | {d.dns.casefold() for d in self.all}
        return not suffix or not self.all or suffix in known


def read(text: str) -> Typed | None:
    """What was typed, taken apart; None if it is no login anywhere."""
    text = unicodedata.normalize("NFC", text)
    if not 0 < len(text) <= LONGEST or not text.isprintable() or text != text.strip():
        return None
    domain, slash, name = text.rpartition("\\")
    if _NEVER & set(text) or "\\" in domain or bool(slash) != bool(domain):
        return None
    if not name or not (name[0].isalnum() or name[0] == "_"):
        return None
    if slash:
        return Typed(text, name, domain)
    local, at, suffix = name.rpartition("@")
    return Typed(text, local, suffix=suffix) if at and local and suffix else Typed(text, name)


def search_for(attribute: str, typed: Typed) -> str:
    """The filter for everybody who may be meant. One search, whoever exists."""
    alone = f"({attribute}={escape_filter_chars(typed.alone)})"
    if not typed.suffix:
        return alone
    whole, name = escape_filter_chars(typed.whole), escape_filter_chars(typed.name)
    return f"(|{alone}({PRINCIPAL}={whole})({attribute}={name}))"


def meant(
    found: list[LdapEntry], attribute: str, typed: Typed, domains: Domains
) -> list[LdapEntry]:
    """Who of those that were found is meant. More than one: nobody.

    A login that holds an @ counts before a principal name, and that before the name which Active
    Directory makes of login and domain (MS-ADTS 5.1.1.1.1).
    """
    if typed.domain:
        wanted = domains.named(typed.domain)
        return [e for e in found if wanted is not None and domains.of(e.dn) == wanted]
    if not typed.suffix:
        return found
    for each, text in ((attribute, typed.whole), (PRINCIPAL, typed.whole)):
        if same := [e for e in found if folded(e.text(each)) == folded(text)]:
            return same
    suffix = typed.suffix.casefold()
    return [
        e
        for e in found
        if folded(e.text(attribute)) == folded(typed.name)
        and (domain := domains.of(e.dn)) is not None
        and domain.dns.casefold() == suffix
    ]


def folded(login: str) -> str:
    """One spelling for all that a directory may take for the same.

    Capitals, accents, blanks, and letters in another width or form.
    """
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", login).casefold())
    return " ".join("".join(c for c in plain if not unicodedata.combining(c)).split())
