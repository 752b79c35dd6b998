"""This server's sources of accounts and groups (nsswitch.conf(5)), asked with patience.

By getent(1), in a process of its own: a directory behind it may hang.
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
"""Accounts below this uid are the system's (login.defs(5), UID_MIN): root above all."""
NOBODY = 65534
"""The uid of what belongs to nobody (systemd's UIDS-GIDS.md)."""
NSSWITCH = Path("/etc/nsswitch.conf")
LOCAL = frozenset({"files", "compat", "db", "extrausers"})
"""Sources that are the server's own files."""


def lines(database: str, keys: Sequence[str], source: str = "") -> list[str]:
    """What getent(1) prints of these keys, of one source or of all. LxcGpuError if it is late.

    A key that is a number asks for one by its number: names have to be compared.
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
    """Nobody knows whose a name or a number is: nothing may be done that depends on it."""
    return LxcGpuError(
        "accounts-silent",
        "This server's sources of accounts (LDAP, SSSD, ...: nsswitch.conf) don't answer: whose a "
        "name, a uid or a home is isn't known, so no account is made and no old home is shown.",
        "Sysadmin: `getent passwd nobody` should answer at once; the next round goes on.",
        Remedy.WAIT,
        details,
    )


def sources(database: str) -> tuple[str, ...]:
    """Where a database is looked up on this server, in order."""
    for line in (read_text(NSSWITCH) or "").splitlines():
        name, colon, words = line.partition("#")[0].partition(":")
        if colon and name.strip() == database:
            return tuple(w for w in words.split() if not w.startswith("["))
    return ()
