"""Notes whose old home each user was shown here, so that no other user gets it with the login.

A newcomer may get the login that a renamed person had, while this server still has old answers:
SSSD keeps them for hours (sssd.conf(5), entry_cache_timeout).
"""

from __future__ import annotations

from collections.abc import Mapping

from reconciler.host import places
from state.errors import LxcGpuError
from state.files import read_text, write_file


def noted() -> Mapping[str, int]:
    """The uid of the account whose home each user was shown."""
    texts = {path.name: read_text(path) or "" for path in places.OLD_OWNERS.glob("[!.]*")}
    return {user: int(text) for user, text in texts.items() if text.strip().isdigit()}


def note(user: str, uid: int) -> None:
    """Note whose home the user is shown. The caller holds the user's lock."""
    if noted().get(user) != uid:
        places.OLD_OWNERS.mkdir(mode=0o700, exist_ok=True)
        write_file(places.OLD_OWNERS / user, f"{uid}\n", 0o600)


def changed(user: str, name: str, uid: int, before: Mapping[str, int]) -> LxcGpuError | None:
    """Why the user may not be shown the home of this account, by earlier notes; else None. Pure."""
    if before.get(user, uid) != uid:
        return LxcGpuError(
            "old-home-changed",
            f"{user}'s old home here was that of uid {before[user]}, but their login is now the "
            f"account {name}, uid {uid}: it is left alone.",
            f"Sysadmin: if both are theirs: `rm {places.OLD_OWNERS / user}`. Then `restart`.",
        )
    for other, theirs in before.items():
        if theirs == uid and other != user:
            return LxcGpuError(
                "old-home-changed",
                f"The home of the account {name} (uid {uid}), whose name is {user}'s login, was "
                f"{other}'s here: it is left alone.",
                f"Sysadmin: if it is {user}'s: `rm {places.OLD_OWNERS / other}`. Then `restart`.",
            )
    return None
