"""Names of users that another source of accounts, or an account of the server's own, has too."""

from __future__ import annotations

import pwd
from collections.abc import Iterator

from reconciler.doctor.server import Server, our_accounts, text_of
from reconciler.host import places
from reconciler.kinds.accounts.account_files import PASSWD
from reconciler.kinds.accounts.in_the_way import OUT_OF_THE_SOURCE, PREFIX
from state.wire.findings import Area, Finding

area = Area("accounts")
MOST_SAID = 5


def names(server: Server) -> Iterator[Finding]:
    """Users of the fleet whom another source of accounts knows: LDAP, SSSD, a local account."""
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
            yield clash(name, account.pw_uid, name in local, user in server.view.residents)
    if clashes > MOST_SAID:
        yield area.wrong(f"{clashes - MOST_SAID} more names are taken by other accounts.")
    if not clashes:
        yield area.ok("no other account has the name of a user")


def clash(name: str, uid: int, local: bool, resident: bool) -> Finding:
    """A user of the fleet whose name another account has. Pure."""
    source = "a local account" if local else "another source (LDAP, SSSD, ...: nsswitch.conf)"
    text = f"{name} is also {source}, uid {uid}: lxc-gpu doesn't touch it."
    hint = (
        f"If it is this person's: usermod -aG {places.USERS_GROUP} {name}. If not: rename it."
        if local
        else OUT_OF_THE_SOURCE.format(name=name)
    )
    return area.wrong(text, hint + PREFIX) if resident else area.note(text, hint + PREFIX)
