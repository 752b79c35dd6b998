"""Why an account can't be made: its name, uid or home is in use in some source of accounts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from reconciler.host import nss, places
from reconciler.kinds.accounts.homes import home_conflict
from state.errors import LxcGpuError

OUT_OF_THE_SOURCE = (
    "Leave {name} out of that source on this server: with SSSD, `filter_users = root, {name}` and "
    "`filter_groups = root, {name}` in the section [nss] of sssd.conf, then "
    "`systemctl restart sssd`."
)
"""Advice on a name that another source of accounts has: usermod(8) can't change it there."""
PREFIX = "Give all accounts of lxc-gpu another name: `account_prefix: gpu-` in fleet.yaml."


class Missing(NamedTuple):
    """An account of lxc-gpu that is to be made, or that gets another name."""

    name: str
    uid: int
    instead_of: str
    """Our account that is renamed; empty if a new one is made."""


def find_conflicts(missing: Mapping[str, Missing]) -> dict[str, LxcGpuError]:
    """Why accounts can't be made: their names or uids in any source of nsswitch.conf(5).

    All are asked about at once, with a time limit: a directory behind a source may hang.
    """
    keys = [key for each in missing.values() for key in (each.name, str(each.uid))]
    try:
        accounts, groups = (_numbers(database, keys) for database in ("passwd", "group"))
    except LxcGpuError as error:
        return dict.fromkeys(missing, error)
    found = {user: _taken(each, accounts, groups) for user, each in missing.items()}
    return {name: conflict for name, conflict in found.items() if conflict is not None}


def _taken(
    missing: Missing, accounts: Mapping[str, int], groups: Mapping[str, int]
) -> LxcGpuError | None:
    name, uid, own = missing.name, missing.uid, (missing.name, missing.instead_of)
    if name in accounts:
        return _elsewhere(name, accounts[name])
    for numbers in (accounts, groups):
        others = (other for other, number in numbers.items() if number == uid and other not in own)
        if owner := next(others, ""):
            return _uid_conflict(name, uid, owner)
    if groups.get(name, uid) != uid:  # sysusers would put the user into that group
        return _group_conflict(name, groups[name])
    return home_conflict(name, uid)


def _numbers(database: str, keys: Sequence[str]) -> dict[str, int]:
    """The ids of the accounts or groups that have these names or ids."""
    found = nss.entries(database, keys, 3)
    return {fields[0]: int(fields[2]) for fields in found if fields[2].isdigit()}


def _elsewhere(name: str, uid: int) -> LxcGpuError:
    return LxcGpuError(
        "account-elsewhere",
        f"Another source of accounts (LDAP, SSSD, ...: nsswitch.conf) has an account {name}, uid "
        f"{uid}, on this server.",
        f"{PREFIX} Or: {OUT_OF_THE_SOURCE.format(name=name)}",
    )


def conflict(name: str, *, same_uid: bool) -> LxcGpuError:
    """The error for an account of this name that isn't ours; `same_uid`: it has the user's uid."""
    return LxcGpuError(
        "account-conflict",
        f"There is already an account {name} on this server that isn't lxc-gpu's.",
        f"{PREFIX} Or: {rename_or_hand_over(name, same_uid=same_uid)}",
    )


def rename_or_hand_over(name: str, *, same_uid: bool) -> str:
    """Advice on a local account of a user's name, besides giving ours a prefix."""
    if not same_uid:  # handing it over would end in `uid-changed`
        return f"rename it, or remove it (`usermod --login ANOTHER {name}`)."
    return (
        f"rename it, or remove it; or, if it is this person's and lxc-gpu is to manage it, "
        f"`usermod --append --groups {places.USERS_GROUP} {name}`."
    )


def system_account(name: str, uid: int) -> LxcGpuError:
    """The error for a system account in our group."""
    return LxcGpuError(
        "account-conflict",
        f"{name} (uid {uid}) is in the group {places.USERS_GROUP}, but is a system "
        "account: it is not disabled.",
        f"Take it out: `gpasswd --delete {name} {places.USERS_GROUP}`.",
    )


def _uid_conflict(name: str, uid: int, owner: str) -> LxcGpuError:
    return LxcGpuError(
        "uid-conflict",
        f"{name} should get the uid {uid}, which {owner} has on this server.",
        f"Give {owner} another number (`usermod --uid`, `groupmod --gid`), or widen or move "
        "`uids:` in fleet.yaml so that it doesn't overlap ids already used on the server.",
    )


def _group_conflict(name: str, gid: int) -> LxcGpuError:
    return LxcGpuError(
        "group-conflict",
        f"There is already a group {name} (gid {gid}) on this server that isn't lxc-gpu's.",
        "Rename it: `groupmod --new-name`; a user's own group has the user's name.",
    )
