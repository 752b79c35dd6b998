"""The name of a user's manage account: the fleet's prefix, then the user's name.

The one place that knows it. Standard library only: the view's programs load it on a server.
"""

from __future__ import annotations

OTHER = "account "
"""Before the name of an account that isn't of this prefix: no user's name has a blank in it."""


def account_of(prefix: str, user: str) -> str:
    """The account of `user`; also what `user_of` was given."""
    return user.removeprefix(OTHER) if user.startswith(OTHER) else f"{prefix}{user}"


def user_of(prefix: str, account: str) -> str:
    """The user who has this account; `OTHER` and its name if the prefix makes it nobody's."""
    user = account.removeprefix(prefix)
    return user if user and account.startswith(prefix) else f"{OTHER}{account}"
