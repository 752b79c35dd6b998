"""Entries of the directory, and how their names and values are read. Pure."""

from __future__ import annotations

import re
import unicodedata
import uuid
from collections.abc import Mapping
from dataclasses import dataclass

from ldap3.utils.conv import escape_bytes, escape_filter_chars

from state import words
from webui.config import DirectoryConfig

Dn = tuple[tuple[tuple[str, str], ...], ...]
"""The parts of a distinguished name. Each has one or more pairs of attribute and value."""
_ATTRIBUTE_VALUE = re.compile(r"\s*([\w.-]+)\s*=((?:\\.|[^\\,+])*)(,|\+|\Z)", re.ASCII | re.DOTALL)
_ESCAPED = re.compile(r"(?:\\[0-9A-Fa-f]{2})+|\\.", re.DOTALL)
PRIMARY_GROUP = ("primaryGroupID", "objectSid")
"""Attributes that tell a person's primary group in Active Directory."""


@dataclass(frozen=True)
class LdapEntry:
    """One entry: its name, and the attributes that were asked for by their names in lower case."""

    dn: str
    attributes: Mapping[str, list[bytes]]

    def text(self, attribute: str) -> str:
        """The first value of an attribute; empty if it has none."""
        values = self.attributes.get(attribute.lower()) or [b""]
        return values[0].decode("utf-8", "replace").strip()

    def number(self, attribute: str) -> int | None:
        """The first value of an attribute as a number; None if it isn't one."""
        text = self.text(attribute)
        return int(text) if re.fullmatch(r"-?[0-9]{1,20}", text, re.ASCII) else None


def directory_id(values: list[bytes] | None) -> str | None:
    """The id in the values of entryUUID (text) or objectGUID; None if there are none.

    An objectGUID has 16 bytes, its first three fields in little-endian order.
    """
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
    return clauses if known_id is None else clauses + search_id(names, known_id)


def search_id(names: DirectoryConfig, known_id: str) -> str:
    """The filter that finds an entry by its id; empty if this directory can't have such an id."""
    if names.id_attribute.lower() != "objectguid":
        return f"({names.id_attribute}={escape_filter_chars(known_id)})"
    try:
        value = escape_bytes(uuid.UUID(known_id).bytes_le)
    except ValueError:
        return ""
    return f"({names.id_attribute}={value})"


def primary_group(entry: LdapEntry) -> str:
    """The SID of the person's primary group in Active Directory (MS-DTYP 2.4.2.1 and 2.4.2.2).

    It is the person's SID with another last part. Empty if the entry has no SID.
    """
    sid = entry.attributes.get("objectsid") or [b""]
    number, whole = entry.number("primaryGroupID"), sid[0]
    if number is None or len(whole) < 12 or len(whole) != 8 + 4 * whole[1]:
        return ""
    authority = int.from_bytes(whole[2:8], "big")
    parts = [int.from_bytes(whole[at : at + 4], "little") for at in range(8, len(whole) - 4, 4)]
    return "-".join(map(str, ("S", whole[0], authority, *parts, number)))


def escaped(text: str) -> str:
    """`text`, escaped for a filter (RFC 4515, 3)."""
    return str(escape_filter_chars(text))


def unescaped(text: str) -> str:
    """The meaning of a value that is escaped as in RFC 4515 (filters) or RFC 4514 (DNs)."""
    return _ESCAPED.sub(_meant, text)


def printable(text: str) -> str:
    """`text` made fit for the state as a full name or address."""
    return words.printable(text, "", without=":").strip()[:200]


def parts_of(dn: str) -> Dn:
    """A distinguished name (RFC 4514) in parts that are equal for all spellings of one name.

    Escapes, the order within a part, capitals and insignificant blanks (RFC 4518, 2.6.1) make no
    difference. A text that isn't a distinguished name becomes one part, which equals only itself.
    """
    whole: list[tuple[tuple[str, str], ...]] = []
    part: list[tuple[str, str]] = []
    at = 0
    while at < len(dn):
        found = _ATTRIBUTE_VALUE.match(dn, at)
        if found is None or (found[3] and found.end() == len(dn)):
            return (((_folded(dn), ""),),)
        part.append((found[1].casefold(), _folded(unescaped(found[2]))))
        if found[3] != "+":
            whole.append(tuple(sorted(part)))
            part = []
        at = found.end()
    return tuple(whole)


def is_below(dn: str, base: str) -> bool:
    """Whether the entry `dn` is `base` or below it."""
    parts, end = parts_of(dn), parts_of(base)
    return not end or parts[-len(end) :] == end


def _meant(escaped: re.Match[str]) -> str:
    """The meaning of backslashes: one character, or bytes of UTF-8 in hexadecimal."""
    if len(escaped[0]) == 2:
        return escaped[0][1]
    return bytes.fromhex(escaped[0].replace("\\", "")).decode("utf-8", "backslashreplace")


def _folded(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text.casefold()).split())
