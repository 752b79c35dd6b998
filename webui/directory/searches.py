"""Searches in the directory over one bound connection."""

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
"""Entries in one answer. Active Directory gives at most 1,000 (MaxPageSize)."""
_PAGES = "1.2.840.113556.1.4.319"
"""The control for paged results (RFC 2696)."""


@dataclass(frozen=True)
class Searches:
    """Questions over one connection. LDAPException unless the answer is complete."""

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

        They come with all attributes unless some are named. Without such a base, there are none.
        """
        try:
            return self._asked(base, wanted, scope, attributes)[:most]
        except LDAPNoSuchObjectResult:
            return []

    def all_below(
        self, base: str, wanted: str, *, attributes: Sequence[str] = ("1.1",)
    ) -> list[LdapEntry]:
        """All entries at `base` and below that match the filter `wanted`, however many.

        LDAPNoSuchObjectResult if there is no such base.
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
        """The SIDs of the bound account, its own first; empty unless it is an Active Directory.

        They are `tokenGroups` of the rootDSE (MS-ADTS 3.1.1.3.2).
        """
        said = self.itself("", _ANYTHING, attributes=("tokenGroups",))
        return said[0].attributes.get("tokengroups", []) if said else []

    def who_am_i(self) -> str:
        """The authorization identity that is bound (RFC 4532); empty if the server names none."""
        return self._who() or ""

    def tells_who(self) -> bool:
        """Whether the server tells who is bound, by "Who am I?" or by `token`."""
        if self._who() is not None:
            return True
        try:
            return bool(self._configuration())
        except LDAPOperationResult:  # before a bind, it tells nothing
            return False

    def _who(self) -> str | None:
        """The identity; empty for anonymous; None if the server can't answer (Samba can't)."""
        try:
            return str(self.connection.extend.standard.who_am_i() or "")
        except (LDAPBusyResult, LDAPUnavailableResult):  # another server may answer
            raise
        except LDAPOperationResult:
            return None

    def _configuration(self) -> str:
        """The DN of Active Directory's configuration; empty in other directories."""
        root = self.itself("", _ANYTHING, attributes=("configurationNamingContext",))
        return root[0].text("configurationNamingContext") if root else ""

    def domains(self) -> Domains:
        """The domains whose people are below `base`; none unless it is an Active Directory."""
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
        """One search. Entries on other servers (subdomains, DNS zones) are left out."""
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
