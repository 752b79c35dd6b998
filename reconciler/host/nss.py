"""Asks this server's sources of accounts and groups (nsswitch.conf(5)), with a time limit.

getent(1) asks, in a process of its own, because a directory may hang.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from state import command
from state.command import CommandError
from state.errors import LxcGpuError, Remedy
from state.files import read_text

PATIENCE = 5.0
"""Seconds that the sources may take to answer."""
FIRST_ORDINARY = 1000
"""Accounts below this uid belong to the system (login.defs(5), UID_MIN)."""
NOBODY = 65534
"""The uid of the account `nobody` (systemd's UIDS-GIDS.md)."""
NSSWITCH = Path("/etc/nsswitch.conf")
LOCAL = frozenset({"files", "compat", "db", "extrausers"})
"""Sources that are files of the server."""


def lines(database: str, keys: Sequence[str], source: str = "") -> list[str]:
    """What getent(1) prints for these keys, of one source or of all. LxcGpuError if it is late.

    A key of digits finds an account by its number, so compare the names in the answer.
    """
    if not keys:
        return []
    alone = [f"--service={source}"] if source else []
    try:
        words = ["getent", *alone, database, "--", *keys]
        return command.run(words, check=False, timeout=PATIENCE).stdout.splitlines()
    except CommandError as error:
        raise silent(error.details) from error


def entries(database: str, keys: Sequence[str], fields: int, source: str = "") -> list[list[str]]:
    """The lines of the answer, split into fields; lines with fewer fields are left out."""
    found = (line.split(":") for line in lines(database, keys, source))
    return [each for each in found if len(each) >= fields]


def silent(details: str) -> LxcGpuError:
    """The error for sources that don't answer, so that an owner isn't known."""
    return LxcGpuError(
        "accounts-silent",
        "This server's sources of accounts (LDAP, SSSD, ...: nsswitch.conf) don't answer. It "
        "is not known who has a name, a uid or a home, so no account is made and no old home "
        "is shown.",
        "Sysadmin: `getent passwd nobody` should answer at once; the next round will try again.",
        Remedy.WAIT,
        details,
    )


def sources(database: str) -> tuple[str, ...]:
    """The sources of a database on this server, in order."""
    for line in (read_text(NSSWITCH) or "").splitlines():
        name, colon, words = line.partition("#")[0].partition(":")
        if colon and name.strip() == database:
            return tuple(w for w in words.split() if not w.startswith("["))
    return ()
