"""Why a person can't log in with the right password. Pure.

Active Directory says so when it refuses the password. The entry tells it beforehand.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from webui.directory.entries import LdapEntry

STATUS = ("userAccountControl", "accountExpires", "pwdAccountLockedTime", "shadowExpire",
          "nsAccountLock")  # fmt: skip
"""Attributes that tell whether an account is closed permanently."""
MORE_STATUS = ("msDS-User-Account-Control-Computed", "pwdLastSet", "logonHours", "userWorkstations")
"""Attributes that tell whether it can't be used at the moment."""
_DISABLED, _LOCKED, _PASSWORD_NEVER_EXPIRES, _SMARTCARD, _PASSWORD_EXPIRED = (
    0x2, 0x10, 0x10000, 0x40000, 0x800000)  # fmt: skip
"""Bits of userAccountControl and of its computed counterpart (MS-ADTS 2.2.16)."""
_AD_NEVER = 2**63 - 1
_AD_EPOCH = 11_644_473_600
"""Seconds from 1601, where Active Directory's times begin, to 1970."""
_LOCKED_FOR_GOOD = "000001010000Z"
"""pwdAccountLockedTime of an account that an administrator locked. Any other value is a lock after
wrong passwords, which anybody can cause for anybody else."""
_WEEK = 21
"""Bytes of logonHours: one bit for each hour of the week."""


@dataclass(frozen=True)
class AccountRefusal:
    """Why a right password was refused."""

    code: str
    why: str
    """For sysadmins; without a full stop."""
    text: str
    """For the person; follows "Your password is right, but "."""
    hint: str


_WHOEVER = "whoever manages the accounts of your laboratory"
_CHANGE_IT = (
    "Change it at a computer of your laboratory, or on its page for passwords. Then come back with"
    " the new one."
)
_REFUSALS = {
    "530": AccountRefusal(
        "login-hours",
        "the account may not log in at this hour of the week",
        "your account may not log in at this hour of the week.",
        f"Come back within your hours, or ask {_WHOEVER} for more of them.",
    ),
    "531": AccountRefusal(
        "login-elsewhere",
        "the account may log in at certain computers only",
        "your account may log in at certain computers only.",
        f"Ask {_WHOEVER} to allow it to log in at the directory's servers, too.",
    ),
    "532": AccountRefusal(
        "password-expired",
        "the password has expired",
        "it has expired.",
        _CHANGE_IT,
    ),
    "533": AccountRefusal(
        "account-disabled",
        "the account is disabled",
        "your account is disabled.",
        f"Ask {_WHOEVER} to enable it.",
    ),
    "701": AccountRefusal(
        "account-expired",
        "the account has expired",
        "your account has expired.",
        f"Ask {_WHOEVER} to extend it.",
    ),
    "773": AccountRefusal(
        "password-first",
        "the password has to be changed before its first use",
        "it has to be changed before its first use.",
        _CHANGE_IT,
    ),
}
"""By the Windows error that Active Directory adds in hexadecimal (MS-ERREF 2.2). Only errors that
imply the right password are here. That of a locked account (775) comes for wrong ones, too."""


def refusal(said: str) -> AccountRefusal | None:
    """Why a right password was refused, by the server's words; None if it was wrong."""
    found = re.search(r"AcceptSecurityContext error, data ([0-9a-f]{1,8})\b", said)
    return _REFUSALS.get(found[1]) if found else None


POLICY = "1.3.6.1.4.1.42.2.27.8.5.1"
"""The control with which a bind asks for the password's state, answered by slapd and its relatives
(draft-behera-ldap-password-policy-10). A lock is told for wrong passwords, too."""
_BY_POLICY = {b"\x00": _REFUSALS["532"], b"\x02": _REFUSALS["773"]}
"""By the error in the answer: passwordExpired, changeAfterReset."""
_SEQUENCE, _ERROR = 0x30, 0x81
"""The tags of the answer and of the error in it. A warning may come before the error, within a tag
of its own; there, 0x81 means something else (grace logins)."""


def policy_refusal(result: Mapping[str, Any]) -> AccountRefusal | None:
    """Why a right password was refused, by the answer to `POLICY` in the `result` of a bind."""
    answer = result.get("controls", {}).get(POLICY, {}).get("value") or b""
    inside = dict(_elements(answer)).get(_SEQUENCE, b"")
    return _BY_POLICY.get(dict(_elements(inside)).get(_ERROR, b""))


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The tags and contents of consecutive elements (BER, X.690 8.1), as far as they are complete.

    Ours are shorter than 128 bytes, so a length is one byte.
    """
    while len(data) >= 2 and data[1] <= min(127, len(data) - 2):
        end = 2 + data[1]
        yield data[0], data[2:end]
        data = data[end:]


@dataclass(frozen=True)
class Obstacle:
    """Something in an entry that keeps the person from logging in."""

    why: str
    cure: str
    """What a sysadmin can do about it."""
    gone: bool = True
    """Whether it closes the account permanently, not only at the moment."""
    sure: bool = True
    """Whether it surely keeps the person out."""


def closed(entry: LdapEntry, now: float) -> str:
    """Why this account is permanently closed at the time `now`; empty if it isn't."""
    return next((each.why for each in obstacles(entry, now) if each.gone), "")


def obstacles(entry: LdapEntry, now: float) -> Iterator[Obstacle]:
    """Everything that keeps the person out at the time `now`, the worst first."""
    control, expires = entry.number("userAccountControl") or 0, entry.number("accountExpires")
    if control & _DISABLED:
        yield Obstacle("the account is disabled", "Enable it in the directory.")
    if expires and expires < _AD_NEVER and expires / 10_000_000 - _AD_EPOCH < now:
        yield Obstacle("the account has expired", "Extend it in the directory (accountExpires).")
    if entry.text("pwdAccountLockedTime") == _LOCKED_FOR_GOOD:
        cure = "Remove its pwdAccountLockedTime in the directory."
        yield Obstacle("the account is locked by an administrator", cure)
    day = entry.number("shadowExpire")
    if day is not None and 0 <= day <= now / 86400:
        yield Obstacle("the account has expired", "Extend it in the directory (shadowExpire).")
    if entry.text("nsAccountLock").lower() == "true":
        yield Obstacle("the account is locked", "Unlock it in the directory (nsAccountLock).")
    yield from _for_now(entry, control, now)


def _for_now(entry: LdapEntry, control: int, now: float) -> Iterator[Obstacle]:
    """Obstacles that end automatically, or with a new password."""
    computed = entry.number("msDS-User-Account-Control-Computed") or 0
    if computed & _LOCKED:
        why = "the account is locked after wrong passwords"
        yield Obstacle(why, "It unlocks after a while, or unlock it in the directory.", gone=False)
    if entry.number("pwdLastSet") == 0 and not control & _PASSWORD_NEVER_EXPIRES:
        why = "the password has to be changed before its first use"
        yield Obstacle(why, "The person changes it, for example on Windows.", gone=False)
    elif computed & _PASSWORD_EXPIRED:
        why = "the password has expired"
        yield Obstacle(why, "The person changes it, for example on Windows.", gone=False)
    if control & _SMARTCARD:
        why = "the account opens with a smart card only"
        yield Obstacle(why, "Allow a password for it in the directory.", gone=False)
    if not _within_hours(entry, now):
        why = "the account may not log in at this hour of the week"
        yield Obstacle(why, "Its logonHours in the directory say when that is allowed.", gone=False)
    if machines := entry.text("userWorkstations"):
        why = f"the account may log in at certain computers only ({machines})"
        cure = "Add the domain controllers to its userWorkstations."
        yield Obstacle(why, cure, gone=False, sure=False)


def _within_hours(entry: LdapEntry, now: float) -> bool:
    """Whether logonHours allow the time `now`: bits from Sunday, 0:00 UTC, the lowest first."""
    (hours,) = entry.attributes.get("logonhours") or [b""]
    if len(hours) != _WEEK:
        return True
    utc = time.gmtime(now)
    hour = (utc.tm_wday + 1) % 7 * 24 + utc.tm_hour
    return bool(hours[hour // 8] >> hour % 8 & 1)
