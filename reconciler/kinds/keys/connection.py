"""Connections to our accounts that were opened by a key that was removed: they are ended.

Each round looks for them, so that a round killed after writing the keys is made good.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from reconciler.host import places
from reconciler.kinds.accounts.account_files import GROUP, PASSWD, AccountFiles
from reconciler.plan import Change, Lock, Observed, Tell
from state.connections.keys import Keys, keys_in
from state.connections.sshd import Connection, connections, end
from state.errors import LxcGpuError
from state.files import read_text
from state.view import View

SERVICES = (places.REGISTER_KEYS.name, "iam")


class ConnectionKind:
    """Connections that may not be open, by user or service account: none are wanted."""

    name = "connection"
    lock = Lock.GLOBAL
    per_user = True

    def desired(self, view: View) -> Mapping[str, tuple[Connection, ...]]:
        """Nothing."""
        return {}

    def observe(self, view: View, names: Collection[str]) -> Observed[tuple[Connection, ...]]:
        """The connections whose key isn't in the account's file as it is now."""
        known: dict[str, Keys] = {}
        found: dict[str, tuple[Connection, ...]] = {}
        for each in connections(_accounts()):
            if each.account not in known:
                known[each.account] = keys_in(places.AUTHORIZED_KEYS / each.account)
            if not each.opened.stands(known[each.account]):
                whose = each.account if each.account in SERVICES else view.user_of(each.account)
                found[whose] = (*found.get(whose, ()), each)
        return Observed(found)

    def apply(
        self, view: View, changes: Sequence[Change[tuple[Connection, ...]]], tell: Tell
    ) -> Mapping[str, LxcGpuError]:
        """End them, and what runs over them."""
        end([each for change in changes for each in change.before or ()])
        return {}

    def describe(self, change: Change[tuple[Connection, ...]]) -> str:
        """E.g. `end 2 connections to the account lqchen, whose key was removed`."""
        doomed = change.before or ()
        what = "a connection" if len(doomed) == 1 else f"{len(doomed)} connections"
        account = doomed[0].account if doomed else change.name
        return f"end {what} to the account {account}, whose key was removed"


def _accounts() -> dict[int, str]:
    accounts = AccountFiles(read_text(PASSWD) or "", "", read_text(GROUP) or "").accounts()
    return {a.uid: name for name, a in accounts.items() if a.ours or name in SERVICES}
