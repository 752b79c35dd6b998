"""Which account is whose, and back again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from state.model.documents import NAME
from state.model.manage_account import OTHER, account_of, user_of

NAMES = st.from_regex(NAME, fullmatch=True)
PREFIXES = st.one_of(st.just(""), st.from_regex(r"[a-z_][a-z0-9_-]{0,15}", fullmatch=True))


@given(PREFIXES, NAMES)
def test_each_account_is_its_users(prefix: str, user: str) -> None:
    assert user_of(prefix, account_of(prefix, user)) == user


@given(PREFIXES, NAMES)
def test_no_two_accounts_are_one_users(prefix: str, account: str) -> None:
    assert account_of(prefix, user_of(prefix, account)) == account


@pytest.mark.parametrize(
    ("prefix", "account", "user"),
    [
        ("", "lqchen", "lqchen"),
        ("gpu-", "gpu-lqchen", "lqchen"),
        ("gpu-", "gpu-gpu-lqchen", "gpu-lqchen"),
        ("gpu-", "lqchen", f"{OTHER}lqchen"),
        ("gpu-", "gpu-", f"{OTHER}gpu-"),
    ],
)
def test_an_account_without_the_prefix_is_no_users(prefix: str, account: str, user: str) -> None:
    assert user_of(prefix, account) == user
