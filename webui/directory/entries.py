"""Entries of the directory, as far as we read them. Pure."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass

from ldap3.utils.conv import escape_bytes, escape_filter_chars

from webui.config import DirectoryConfig

STATUS = ("userAccountControl", "accountExpires", "pwdAccountLockedTime", "shadowExpire",
          "nsAccountLock")  # fmt: skip
"""Attributes that can say that an account is closed."""
_AD_DISABLED = 2
_AD_NEVER = 2**63 - 1
_AD_EPOCH = 11_644_473_600
"""Seconds from 1601, where Active Directory counts from, to 1970."""
_LOCKED_FOR_GOOD = "000001010000Z"
"""pwdAccountLockedTime of an account that an administrator locked. Any other value is a lock
after wrong guesses, which anybody could bring about for anybody."""


@dataclass(frozen=True)
class Entry:
    """One entry: its name and the attributes that were asked for, in lower case."""

    dn: str
    attributes: Mapping[str, list[bytes]]

    def text(self, attribute: str) -> str:
        """The first value of an attribute; empty if it has none."""
        values = self.attributes.get(attribute.lower()) or [b""]
        return values[0].decode("utf-8", "replace").strip()

    def number(self, attribute: str) -> int | None:
        """The same as a number, if it is one."""
        text = self.text(attribute)
        return int(text) if re.fullmatch(r"-?[0-9]{1,20}", text, re.ASCII) else None


def closed(entry: Entry, now: float) -> str:
    """Why this account is closed at the time `now`, in words; empty if it isn't."""
    control, expires = entry.number("userAccountControl"), entry.number("accountExpires")
    if control is not None and control & _AD_DISABLED:
        return "the account is disabled"
    if expires and expires < _AD_NEVER and expires / 10_000_000 - _AD_EPOCH < now:
        return "the account has expired"
    if entry.text("pwdAccountLockedTime") == _LOCKED_FOR_GOOD:
        return "the account is locked by an administrator"
    day = entry.number("shadowExpire")
    if day is not None and 0 <= day <= now / 86400:
        return "the account has expired"
    if entry.text("nsAccountLock").lower() == "true":
        return "the account is locked"
    return ""


def directory_id(values: list[bytes] | None) -> str | None:
    """entryUUID is text; objectGUID is 16 bytes, the first three fields little-endian."""
    if not values or not values[0]:
        return None
    value = values[0]
    try:
        text = value.decode("ascii")
        if len(value) != 16 and re.fullmatch(r"[A-Za-z0-9-]{1,64}", text):
            return text
    except UnicodeDecodeError:
        pass
    return str(uuid.UUID(bytes_le=value)) if len(value) == 16 else value.hex()[:64]


def search_for(names: DirectoryConfig, login: str, known_id: str | None) -> str:
    """The filter that finds a user's entry, by login or, if it was renamed, by its id."""
    clauses = f"({names.login_attribute}={escape_filter_chars(login)})"
    if known_id is None:
        return clauses
    if names.id_attribute.lower() != "objectguid":
        return clauses + f"({names.id_attribute}={escape_filter_chars(known_id)})"
    try:
        value = escape_bytes(uuid.UUID(known_id).bytes_le)
    except ValueError:
        return clauses
    return clauses + f"({names.id_attribute}={value})"


def printable(text: str) -> str:
    """`text` as a full name or address can stand in the state."""
    return "".join(c for c in text if c.isprintable() and c != ":").strip()[:200]


def same_dn(dn: str) -> str:
    """One spelling for all that mean one entry: no blanks around , = and +, no capitals."""
    return re.sub(r"\s*([,=+])\s*", r"\1", dn).casefold()
