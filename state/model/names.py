"""User names for logins that can't be names on a Linux system."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Container

from state.model.documents import NAME
from state.model.manage_account import account_of
from state.model.reserved import RESERVED_BEGINNINGS, is_reserved

LONGEST = 31
_SPELLED_OUT = str.maketrans(
    {"ß": "ss", "æ": "ae", "ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "œ": "oe"}
)


def propose_name(login: str, taken: Container[str], prefix: str = "") -> str:
    """A valid, free, unreserved name for `login`; the same one for the same `taken`.

    So is the name of the account on the servers, which has the fleet's `prefix`.

    `LQChen` becomes lqchen, `Lequn.Chen` lequn-chen, `12345` u12345; of `a@example.org` the part
    before the @ counts; the second one gets a number: ann2.
    """
    base, longest = _simplified(login), LONGEST - len(prefix)
    number = 1
    while True:
        suffix = "" if number == 1 else str(number)
        name = base[: longest - len(suffix)].rstrip("-") + suffix
        free = NAME.fullmatch(name) and name not in taken and not is_reserved(name)
        if free and why_no_account(prefix, name, taken) is None:
            return name
        number += 1


def why_no_account(prefix: str, name: str, users: Container[str]) -> str | None:
    """Why `prefix` and `name` can't name an account besides `users`, in words; None if they can."""
    account = account_of(prefix, name)
    if not prefix:
        return None
    if not NAME.fullmatch(account):
        return f"is too long: {len(account)} letters, and {LONGEST} are the most"
    if is_reserved(account):
        return "is that of a system account or of lxc-gpu"
    for other in (account, name.removeprefix(prefix)):
        if other != name and other in users:
            return f"can't be told from the user {other}"
    return None


def _simplified(login: str) -> str:
    """`login` in lower-case ASCII, everything else a single `-`, beginning with a letter."""
    small = login.casefold() if NAME.fullmatch(login.lower()) else login.partition("@")[0].lower()
    if NAME.fullmatch(small) and not small.startswith(RESERVED_BEGINNINGS):
        return small
    plain = unicodedata.normalize("NFKD", small.translate(_SPELLED_OUT))
    text = "".join(c for c in plain if not unicodedata.combining(c))
    text = re.sub(r"[^a-z0-9_]+", "-", text).strip("-")
    if not text:
        return "user"
    text = text if text[0].isalpha() else f"u{text.lstrip('_-')}"
    return f"u-{text}" if text.startswith(RESERVED_BEGINNINGS) else text
