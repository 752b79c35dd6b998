"""What entries and refusals say of accounts that can't be used."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from webui.directory.account_status import POLICY, closed, obstacles, policy_refusal, refusal
from webui.directory.entries import LdapEntry

NOW = 1_800_000_000.0
"""A Friday, 8 h UTC."""
TODAY = int(NOW // 86400)
SAID = "80090308: LdapErr: DSID-0C0903A9, comment: AcceptSecurityContext error, data {}, v1db1"


def entry(attributes: Mapping[str, str | bytes]) -> LdapEntry:
    return LdapEntry("cn=x", {
        name.lower(): [value if isinstance(value, bytes) else value.encode()]
        for name, value in attributes.items()
    })  # fmt: skip


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ({}, ""),
        ({"userAccountControl": "512"}, ""),
        ({"userAccountControl": "514"}, "disabled"),
        ({"accountExpires": "0"}, ""),
        ({"accountExpires": "9223372036854775807"}, ""),
        ({"accountExpires": "132000000000000000"}, "expired"),
        ({"pwdAccountLockedTime": "000001010000Z"}, "locked by an administrator"),
        ({"pwdAccountLockedTime": "20260101120000Z"}, ""),  # wrong guesses: anybody can do that
        ({"shadowExpire": "-1"}, ""),
        ({"shadowExpire": str(TODAY + 1)}, ""),
        ({"shadowExpire": str(TODAY)}, "expired"),
        ({"shadowExpire": "1"}, "expired"),
        ({"shadowExpire": "soon"}, ""),
        ({"nsAccountLock": "TRUE"}, "locked"),
        ({"nsAccountLock": "false"}, ""),
    ],
)
def test_closed_accounts(attributes: dict[str, str], said: str) -> None:
    assert said in closed(entry(attributes), NOW)
    assert bool(said) == bool(closed(entry(attributes), NOW))
    assert bool(said) == bool(list(obstacles(entry(attributes), NOW)))


def hours(*open_at: int) -> bytes:
    """logonHours that are open at these hours of the week, from Sunday, 0 h UTC, on."""
    return sum(1 << hour for hour in open_at).to_bytes(21, "little")


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ({"msDS-User-Account-Control-Computed": "16"}, "locked after wrong passwords"),
        ({"msDS-User-Account-Control-Computed": "8388608"}, "password has expired"),
        ({"msDS-User-Account-Control-Computed": "8388608", "pwdLastSet": "0"}, "first use"),
        ({"pwdLastSet": "0"}, "first use"),
        ({"pwdLastSet": "0", "userAccountControl": "66048"}, ""),  # a password that never expires
        ({"userAccountControl": "262656"}, "smart card"),
        ({"logonHours": hours(5 * 24 + 8)}, ""),
        ({"logonHours": hours(5 * 24 + 7, 5 * 24 + 9, 4 * 24 + 8)}, "hour of the week"),
        ({"logonHours": b""}, ""),
        ({"userWorkstations": "PC7"}, "certain computers only (PC7)"),
    ],
)
def test_what_keeps_somebody_out_for_now_is_not_gone(
    attributes: dict[str, bytes] | dict[str, str], said: str
) -> None:
    found = [each.why for each in obstacles(entry(attributes), NOW)]
    assert len(found) == bool(said)
    assert said in "".join(found)
    assert closed(entry(attributes), NOW) == ""


@pytest.mark.parametrize(
    ("data", "code"),
    [
        ("530", "login-hours"),
        ("531", "login-elsewhere"),
        ("532", "password-expired"),
        ("533", "account-disabled"),
        ("701", "account-expired"),
        ("773", "password-first"),
    ],
)
def test_what_a_refusal_of_the_right_password_means(data: str, code: str) -> None:
    found = refusal(SAID.format(data))
    assert found is not None
    assert found.code == code


@pytest.mark.parametrize("data", ["525", "52e", "775", "5330", "0", "x533"])
def test_other_refusals_mean_nothing(data: str) -> None:
    assert refusal(SAID.format(data)) is None


def test_words_of_other_servers_mean_nothing() -> None:
    assert refusal("invalidCredentials, data 533") is None


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ("30 00", None),
        ("30 03 81 01 00", "password-expired"),
        ("30 03 81 01 02", "password-first"),
        ("30 03 81 01 01", None),  # locked: said for wrong passwords, too
        ("30 05 a0 03 81 01 00", None),  # logins left with an expired password: none, or two
        ("30 05 a0 03 81 01 02", None),
        ("30 06 a0 04 80 02 0e 10", None),  # the password expires in an hour
        ("30 09 a0 04 80 02 0e 10 81 01 02", "password-first"),
        ("30 08 a0 03 81 01 02 81 01 00", "password-expired"),
        ("81 01 02", None),
        ("30 03 81 02 00", None),
        ("30 84 00 00", None),
        ("", None),
    ],
)
def test_only_the_error_of_a_password_policy_closes_an_account(
    answer: str, code: str | None
) -> None:
    """Its warnings, which stand before it, don't (draft-behera-ldap-password-policy-10, 6.2)."""
    said = policy_refusal({"controls": {POLICY: {"value": bytes.fromhex(answer)}}})
    assert (said.code if said else None) == code
