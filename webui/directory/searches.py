"""Searches in the directory, over a connection that may search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ldap3 import ALL_ATTRIBUTES, BASE, SUBTREE, Connection
from ldap3.core.exceptions import LDAPNoSuchObjectResult
from ldap3.utils.conv import escape_filter_chars

from webui.config import DirectoryConfig
from webui.directory.entries import Entry


@dataclass(frozen=True)
class Searches:
    """What can be asked over one connection."""

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
    ) -> list[Entry]:
        """The first `most` entries at `base` and below that match the filter `wanted`.

        With all of their attributes, unless some are named. No such base: no entries.
        """
        try:
            self.connection.search(
                base,
                wanted,
                scope,
                attributes=list(attributes) or [ALL_ATTRIBUTES, self.config.id_attribute],
                size_limit=0,
                time_limit=self.config.answer_seconds,
            )
        except LDAPNoSuchObjectResult:
            return []
        answers = self.connection.response or ()
        found = [each for each in answers if each["type"] == "searchResEntry"]
        return [
            Entry(each["dn"], {k.lower(): list(v) for k, v in each["raw_attributes"].items()})
            for each in found[:most]
        ]

    def itself(self, dn: str, wanted: str, *, attributes: Sequence[str] = ()) -> list[Entry]:
        """The entry `dn`, if it matches the filter `wanted`."""
        return self.below(dn, wanted, attributes=attributes, scope=BASE)

    def with_login(self, login: str) -> list[Entry]:
        """Whoever has this login; two are enough to know that it isn't one person's."""
        wanted = f"({self.config.login_attribute}={escape_filter_chars(login)})"
        return self.below(self.config.base, wanted, most=2)
