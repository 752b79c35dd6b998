"""Checks whether another account has the name of a user: a local one, or one of a directory."""

from __future__ import annotations

import pwd
from collections.abc import Iterator

from reconciler.doctor.server import CheckedServer, our_accounts, text_of
from reconciler.kinds.accounts.account_files import PASSWD
from reconciler.kinds.accounts.conflicts import OUT_OF_THE_SOURCE, PREFIX, rename_or_hand_over
from state.wire.findings import Area, Finding

area = Area("accounts")
MOST_SAID = 5


def names(server: CheckedServer) -> Iterator[Finding]:
    """Whether users have the name of another account: a local one, or one of LDAP, SSSD, ..."""
    if server.view is None:
        return
    local = {line.split(":")[0] for line in (text_of(PASSWD) or "").splitlines()}
    ours = our_accounts()
    clashes = 0
    for user in sorted(server.view.registrants):
        name = server.view.account_of(user)
        if name in ours and name in local:
            continue
        try:
            account = pwd.getpwnam(name)
        except KeyError:
            continue
        clashes += 1
        if clashes <= MOST_SAID:
            resident = server.view.residents.get(user)
            wanted = resident.uid if resident else None
            yield clash(name, account.pw_uid, name in local, wanted)
    if clashes > MOST_SAID:
        yield area.wrong(f"{clashes - MOST_SAID} more names are taken by other accounts.")
    if not clashes:
        yield area.ok("no other account has the name of a user")


def clash(name: str, uid: int, local: bool, wanted: int | None) -> Finding:
    """The finding for a user whose name another account has. Pure.

    `wanted`: the uid that the state gives a resident; None if the user isn't registered here.
    """
    source = "a local account" if local else "another source (LDAP, SSSD, ...: nsswitch.conf)"
    text = f"{name} is also {source}, uid {uid}: lxc-gpu doesn't touch it."
    same = wanted in (None, uid)
    more = (
        rename_or_hand_over(name, same_uid=same) if local else OUT_OF_THE_SOURCE.format(name=name)
    )
    hint = f"{PREFIX} Or: {more}"
    return area.note(text, hint) if wanted is None else area.wrong(text, hint)
