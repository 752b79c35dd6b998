"""`lxc-gpu adopt --check`: says in advance what on this server conflicts with the fleet's users.

It runs the checks of rounds and of the doctor on a view in which every user is registered here.
"""

from __future__ import annotations

import pwd
import socket
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby, islice
from typing import TYPE_CHECKING

from reconciler.doctor import numbers, old_homes
from reconciler.doctor.server import CheckedServer, our_accounts
from reconciler.host import places
from reconciler.host.config import read_server_config, ssh_command
from reconciler.host.nss import FIRST_ORDINARY, NOBODY
from reconciler.host.published import published_view
from reconciler.kinds.accounts.account import AccountKind
from reconciler.kinds.accounts.conflicts import PREFIX
from reconciler.rounds.newest import newest_view
from shells.commands.doctor import show
from shells.terminal import Terminal
from state.git.repository import Repository
from state.model.documents import Registration
from state.view import view_of
from state.wire.findings import Area, Check, Finding, Level, examine

if TYPE_CHECKING:
    from reconciler.doctor.server import CheckedServer
    from reconciler.host.config import ServerConfig
    from state.errors import LxcGpuError
    from state.view import View

area = Area("accounts")
MOST_NAMED = 10
AT_ONCE = 50
"""Users that sources of accounts are asked about at once."""


def check() -> bool:
    """Print the conflicts. Whether there are none."""
    config = read_server_config()
    server = CheckedServer(config, with_everybody(config))
    checks: tuple[Check[CheckedServer], ...] = (
        conflicts,
        newcomers,
        numbers.uids,
        numbers.subordinate_ids,
        numbers.mapped,
        old_homes.shown,
    )
    findings = examine(checks, server)
    show(findings, Terminal(sys.stdout, sys.stdout), socket.gethostname())
    return not any(finding.level is Level.WRONG for finding in findings)


def with_everybody(config: ServerConfig) -> View:
    """The view of the newest revision, as if every user were registered here."""
    newest = newest_view(config, published_view())
    if newest.refused:
        Terminal().note(f"The newest revision is not taken: {newest.refused}")
    revision = newest.view.revision
    state = Repository(places.STATE_CLONE, ssh_command()).read(revision)
    key = state.servers[config.name].host_key
    everybody = {name: Registration(host_key=key) for name in state.users}
    here = {**everybody, **state.registrations.get(config.name, {})}
    registrations = {**state.registrations, config.name: here}
    return view_of(replace(state, registrations=registrations), config.name, revision)


def conflicts(server: CheckedServer) -> Iterator[Finding]:
    """Users whose accounts a round couldn't make or use."""
    assert server.view is not None  # noqa: S101
    view = server.view
    found: dict[str, LxcGpuError] = {}
    rest = iter(sorted(view.residents))
    while some := tuple(islice(rest, AT_ONCE)):
        conflicts = AccountKind().observe(view, some).unreadable
        found |= {name: error for name, error in conflicts.items() if name in some}
    alike = groupby(sorted(found, key=lambda n: (found[n].code, n)), lambda n: found[n].code)
    for code, names in alike:
        first, *others = names
        text = f"{first}: {found[first].message} ({code})"
        if others:
            text += f" The same holds for {_listed(others)}."
        yield area.wrong(text, found[first].hint)
    clear = len(view.residents) - len(found)
    if clear:
        yield area.ok(f"nothing is in the way of {clear} of {len(view.residents)} users' accounts")


def newcomers(server: CheckedServer) -> Iterator[Finding]:
    """Accounts of people who aren't users yet: if they register, their names are taken."""
    assert server.view is not None  # noqa: S101
    known = our_accounts() | server.view.registrants.keys()
    people = sorted(
        account.pw_name
        for account in pwd.getpwall()
        if FIRST_ORDINARY <= account.pw_uid != NOBODY and account.pw_name not in known
    )
    if server.view.account_prefix or not people:
        return
    count = (
        "1 account here isn't a user's"
        if len(people) == 1
        else f"{len(people)} accounts here aren't users'"
    )
    yield area.note(
        f"{count} yet: {_listed(people)}. Should such a person save a key and register, their name "
        "is taken.",
        PREFIX,
    )


def _listed(names: Sequence[str]) -> str:
    more = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
