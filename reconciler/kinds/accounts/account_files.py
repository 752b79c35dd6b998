"""Reads passwd(5), shadow(5) and group(5), and writes what adds accounts to them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from reconciler.host import places

PASSWD, SHADOW, GROUP = Path("/etc/passwd"), Path("/etc/shadow"), Path("/etc/group")
EXPIRED = 1
"""The day, since 1970, on which a disabled account expired (shadow(5): 0 is ambiguous)."""


class Account(NamedTuple):
    """One account on the host."""

    uid: int
    full_name: str
    shell: str
    ours: bool = True
    enabled: bool = True
    home_ready: bool = True
    """Whether the home exists, belongs to the user and has HOME_MODE."""
    name: str = ""
    """The account's name, which may differ from its user's (`View.account_of`)."""


class AccountFiles(NamedTuple):
    """What passwd(5), shadow(5) and group(5) say."""

    passwd: str
    shadow: str
    group: str

    def accounts(self) -> dict[str, Account]:
        """Every account in the files; `home_ready` is not known from them and left true."""
        ours = self.members(places.USERS_GROUP)
        expired = {f[0] for f in fields_of(self.shadow, 9) if f[7] == str(EXPIRED)}
        return {
            name: Account(int(uid), full_name, shell, name in ours, name not in expired, name=name)
            for name, _, uid, _, full_name, _, shell in fields_of(self.passwd, 7)
        }

    def members(self, group: str) -> frozenset[str]:
        """The supplementary members of `group`."""
        for name, _, _, members in fields_of(self.group, 4):
            if name == group:
                return frozenset(members.split(","))
        return frozenset()


def fields_of(text: str, count: int) -> list[list[str]]:
    """The lines that have `count` fields, between colons."""
    lines = (line.split(":") for line in text.splitlines())
    return [fields for fields in lines if len(fields) == count]


def sysusers_lines(accounts: Iterable[Account]) -> str:
    """The sysusers.d(5) text that makes these accounts in one run of systemd-sysusers."""
    lines: list[str] = []
    for account in accounts:
        name = account.name
        gecos = account.full_name.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
        home = places.HOMES / name
        lines.append(f'u {name} {account.uid}:{account.uid} "{gecos}" {home} {account.shell}')
        lines.append(f"g {name} {account.uid}")
        lines.append(f"m {name} {places.USERS_GROUP}")
    return "\n".join(sorted(lines)) + "\n"  # groups before users, users before members
