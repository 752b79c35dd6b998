"""Searches in the directory, over a connection that may search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ldap3 import ALL_ATTRIBUTES, BASE, SUBTREE, Connection
from ldap3.core.exceptions import (
    LDAPBusyResult,
    LDAPNoSuchObjectResult,
    LDAPOperationResult,
    LDAPUnavailableResult,
)

from webui.config import DirectoryConfig
from webui.directory.entries import LdapEntry, is_below
from webui.directory.logins import Domain, Domains

_MOST_DOMAINS = 1000
_ANYTHING = "(objectClass=*)"

PAGE = 500
"""Entries in one answer; Active Directory gives 1,000 at most (MaxPageSize)."""
_PAGES = "1.2.840.113556.1.4.319"
"""Control for paged results (RFC 2696)."""


@dataclass(frozen=True)
class Searches:
    """What can be asked over one connection. Half an answer is none: LDAPException."""

    connection: Connection
    config: DirectoryConfig

    def below(
        self,
        base: str,
        wanted: str,
        *,
        most: int = 1,
        attributes: Sequence[str] = (),
        scope: Any = SUBTREE,
    ) -> list[LdapEntry]:
        """The first `most` entries at `base` and below that match the filter `wanted`.

        With all of their attributes, unless some are named. No such base: no entries.
        """
        try:
            return self._asked(base, wanted, scope, attributes)[:most]
        except LDAPNoSuchObjectResult:
            return []

    def all_below(
        self, base: str, wanted: str, *, attributes: Sequence[str] = ("1.1",)
    ) -> list[LdapEntry]:
        """All entries at `base` and below that match the filter `wanted`, however many.

        No such base: an error.
        """
        found: list[LdapEntry] = []
        page: dict[str, Any] = {"paged_size": PAGE}
        while True:
            found += self._asked(base, wanted, SUBTREE, attributes, **page)
            controls = self.connection.result.get("controls", {})
            page["paged_cookie"] = controls.get(_PAGES, {}).get("value", {}).get("cookie")
            if not page["paged_cookie"]:  # a server that knows no pages has said everything
                return found

    def itself(self, dn: str, wanted: str, *, attributes: Sequence[str] = ()) -> list[LdapEntry]:
        """The entry `dn`, if it matches the filter `wanted`."""
        return self.below(dn, wanted, attributes=attributes, scope=BASE)

    def token(self) -> list[bytes]:
        """The SIDs of who is bound, the own one first: Active Directory says them.

        `tokenGroups` of the rootDSE, MS-ADTS 3.1.1.3.2.
        """
        said = self.itself("", _ANYTHING, attributes=("tokenGroups",))
        return said[0].attributes.get("tokengroups", []) if said else []

    def who_am_i(self) -> str:
        """Who is bound: an authorization identity (RFC 4532); empty if the server says none."""
        return self._who() or ""

    def tells_who(self) -> bool:
        """Whether the server says who is bound: asked so, or as Active Directory by `token`."""
        if self._who() is not None:
            return True
        try:
            return bool(self._configuration())
        except LDAPOperationResult:  # it tells nobody anything, before a bind
            return False

    def _who(self) -> str | None:
        """Empty for nobody; None if the server doesn't answer that, by whatever code.

        Samba, for one, doesn't know the question.
        """
        try:
            return str(self.connection.extend.standard.who_am_i() or "")
        except (LDAPBusyResult, LDAPUnavailableResult):  # another server may answer
            raise
        except LDAPOperationResult:
            return None

    def _configuration(self) -> str:
        """Where Active Directory keeps what is about itself; empty elsewhere."""
        root = self.itself("", _ANYTHING, attributes=("configurationNamingContext",))
        return root[0].text("configurationNamingContext") if root else ""

    def domains(self) -> Domains:
        """The domains whose people are below `base`; none where it is no Active Directory."""
        place = self._configuration()
        if not place:
            return Domains()
        wanted = "(|(nETBIOSName=*)(uPNSuffixes=*))"
        asked = ("nCName", "nETBIOSName", "dnsRoot", "uPNSuffixes")
        partitions = f"CN=Partitions,{place}"
        found = self.below(partitions, wanted, most=_MOST_DOMAINS, attributes=asked)
        every = tuple(
            Domain(each.text("nCName"), each.text("nETBIOSName"), each.text("dnsRoot"))
            for each in found
            if each.text("nCName")
        )
        base = self.config.base
        around = Domains(every).of(base)
        ours = tuple(each for each in every if each == around or is_below(each.dn, base))
        said = [value for each in found for value in each.attributes.get("upnsuffixes", [])]
        return Domains(ours, frozenset(v.decode("utf-8", "replace").casefold() for v in said))

    def _asked(
        self, base: str, wanted: str, scope: Any, attributes: Sequence[str], **page: Any
    ) -> list[LdapEntry]:
        """What stands on other servers (subdomains, DNS zones) is left out."""
        self.connection.search(
            base,
            wanted,
            scope,
            attributes=list(attributes) or [ALL_ATTRIBUTES, self.config.id_attribute],
            size_limit=0,
            time_limit=self.config.answer_seconds,
            **page,
        )
        return [
            LdapEntry(each["dn"], {k.lower(): list(v) for k, v in each["raw_attributes"].items()})
            for each in self.connection.response or ()
            if each["type"] == "searchResEntry"
        ]
