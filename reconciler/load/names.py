"""Finds the name under which the page shows the owner of a process."""

from __future__ import annotations

import os
import pwd
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from reconciler.children.answering import AnsweringChild, EndedError, SilentError
from reconciler.host import places
from reconciler.host.published import published_view
from reconciler.load.owners import Owners
from state.view import View
from state.wire.server_load import SYSTEM

PASSWD = Path("/etc/passwd")
LOGIN_DEFS = Path("/etc/login.defs")
NOBODY = 65534
MOST_UNKNOWN = 1000
PATIENCE = 5.0


class Names:
    """Names of uids: residents by the published view, accounts by passwd, or by NSS."""

    def __init__(self) -> None:
        self._first_uid = first_uid(_text(LOGIN_DEFS))
        self.view: View | None = None
        """The published view; None until there is one."""
        self._signs: tuple[object, ...] = ()
        self._owners: Owners | None = None
        self._accounts = dict[int, str]()
        self._elsewhere = dict[int, str | None]()
        self._unknown = set[int]()
        self._known = dict[int, str]()
        # a directory behind NSS may be down: it is asked in a child, and nothing here waits for it
        self._nss = AnsweringChild("lxc-gpu-names", _asked_of_nss, PATIENCE)

    def refresh(self) -> None:
        """Read what has changed. If nothing has, this takes two calls of stat(2)."""
        signs = (_sign(places.VIEW), _sign(PASSWD))
        if signs != self._signs:
            if view := published_view():
                self.view, self._owners = view, Owners(view)
            self._accounts = accounts(_text(PASSWD))
            self._known.clear()
            self._signs = signs
        self._ask_elsewhere()

    def __call__(self, uid: int) -> str:
        """The name for a uid: a resident, an ordinary account, or SYSTEM."""
        found = self._known.get(uid)
        if found is None:
            found = self._known[uid] = self._name(uid)
        return found

    def close(self) -> None:
        """End the child that asks."""
        self._nss.close()

    def _name(self, uid: int) -> str:
        if self._owners and (resident := self._owners.of(uid)):
            return resident
        if uid < self._first_uid or uid == NOBODY:
            return SYSTEM
        if uid in self._accounts:
            return self._accounts[uid]
        if uid not in self._elsewhere and len(self._elsewhere) < MOST_UNKNOWN:
            self._unknown.add(uid)
        return self._elsewhere.get(uid) or SYSTEM

    def _ask_elsewhere(self) -> None:
        with suppress(SilentError, EndedError):
            for uid, name in (self._nss.answer() or {}).items():
                self._elsewhere[int(uid)] = name
                self._unknown.discard(int(uid))
                self._known.pop(int(uid), None)
                self._nss.succeeded()
            if self._unknown:
                self._nss.ask(sorted(self._unknown))


def first_uid(login_defs: str) -> int:
    """The first uid of ordinary accounts, by login.defs(5). Pure."""
    match = re.search(r"^\s*UID_MIN\s+([0-9]+)\s*$", login_defs, re.M)
    return int(match[1]) if match else 1000


def accounts(passwd: str) -> dict[int, str]:
    """Names by uid; of several with one uid, the first. Pure."""
    found = dict[int, str]()
    for line in passwd.splitlines():
        fields = line.split(":")
        if len(fields) > 3 and fields[2].isdecimal() and fields[0].isprintable():
            found.setdefault(int(fields[2]), fields[0][:128])
    return found


def _asked_of_nss(uids: Sequence[int]) -> dict[str, str | None]:
    return {str(uid): _nss_name(uid) for uid in uids}


def _nss_name(uid: int) -> str | None:
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        return None
    return name[:128] if name.isprintable() else None


def _sign(path: Path) -> object:
    try:
        status = os.stat(path)  # noqa: PTH116 # each time; a Path is slower
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""
