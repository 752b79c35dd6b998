"""Logins as people type them. Pure.

To Windows machines, `lqchen`, `MYLAB\\lqchen` and `lqchen@mylab.com` mean the same person, so
people type all of them here, too. Active Directory itself says which domains there are.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

from ldap3.utils.conv import escape_filter_chars

from webui.directory.entries import LdapEntry, is_below, parts_of

LONGEST = 128
"""Characters of a login with its domain, at most."""
PRINCIPAL = "userPrincipalName"
_NEVER = frozenset('"/[]:;|=,+*?<>')
"""Characters that neither a sAMAccountName (Windows: "User name formats") nor another login has."""


@dataclass(frozen=True)
class Typed:
    """A login in its parts."""

    whole: str
    name: str
    """Without any domain."""
    domain: str = ""
    """The part before a backslash."""
    suffix: str = ""
    """The part after the last @."""

    @property
    def alone(self) -> str:
        """The value to search in the login attribute. An @ may be part of it, a backslash can't."""
        return self.name if self.domain else self.whole


@dataclass(frozen=True)
class Domain:
    """A domain of Active Directory: a crossRef (MS-ADTS 6.1.1.2.1.1)."""

    dn: str
    netbios: str
    dns: str


@dataclass(frozen=True)
class Domains:
    """The directory's domains; none unless it is an Active Directory."""

    all: tuple[Domain, ...] = ()
    suffixes: frozenset[str] = frozenset()
    """Suffixes of principal names besides the domains' own, in lower case."""

    def named(self, netbios: str) -> Domain | None:
        """The domain with this NetBIOS name."""
        same = (d for d in self.all if d.netbios.casefold() == netbios.casefold())
        return next(same, None)

    def of(self, dn: str) -> Domain | None:
        """The domain that the entry `dn` is in."""
        above = [d for d in self.all if is_below(dn, d.dn)]
        return max(above, key=lambda d: len(parts_of(d.dn)), default=None)

    def know(self, typed: Typed) -> bool:
        """Whether the domain or the suffix of `typed` is one of the directory's."""
        if typed.domain:
            return self.named(typed.domain) is not None
        suffix = typed.suffix.casefold()
        known = self.suffixes | {d.dns.casefold() for d in self.all}
        return not suffix or not self.all or suffix in known


def read(text: str) -> Typed | None:
    """The typed text in its parts; None if it can't be a login."""
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
    """One filter for all whom `typed` may mean."""
    alone = f"({attribute}={escape_filter_chars(typed.alone)})"
    if not typed.suffix:
        return alone
    whole, name = escape_filter_chars(typed.whole), escape_filter_chars(typed.name)
    return f"(|{alone}({PRINCIPAL}={whole})({attribute}={name}))"


def meant(
    found: list[LdapEntry], attribute: str, typed: Typed, domains: Domains
) -> list[LdapEntry]:
    """Those of the entries `found` that `typed` means; with more than one, nobody is let in.

    A login that contains the @ comes first, then a principal name, then the name that Active
    Directory forms from login and domain (MS-ADTS 5.1.1.1.1).
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
    """One spelling for all logins that a directory may consider equal.

    They may differ in capitals, accents, blanks, and in the width or form of letters.
    """
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", login).casefold())
    return " ".join("".join(c for c in plain if not unicodedata.combining(c)).split())
