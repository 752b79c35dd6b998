"""Checks whether sshd lets our people in, with the settings of our piece of its configuration.

Of the Match blocks that apply, the first value wins, and all of them win over what stands outside
of one (sshd_config(5)). So a block in a piece that sorts before ours can override ours. Lists of
people or addresses (AllowUsers, ListenAddress) can shut our people out without a message.
"""

from __future__ import annotations

import os
import pwd
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from grp import getgrgid

from reconciler.doctor.server import COMMAND_LIMIT, CheckedServer, our_accounts
from reconciler.doctor.sshd import files
from reconciler.doctor.sshd.access import SshdRefusal, SshLogin, fits, refusal
from reconciler.doctor.sshd.files import RELOAD, ConfigLine
from reconciler.host import places
from reconciler.host.config import web_machine
from state import command
from state.wire.findings import Area, Finding

area = Area("sshd")
OUTSIDE = "192.0.2.1"
"""An address that nobody has (RFC 5737). It stands for clients anywhere."""
MOST_NAMED = 5
KEYS = f"{places.AUTHORIZED_KEYS}/%u"
LOGIN = {"pubkeyauthentication": "yes", "authenticationmethods": "publickey"}
OURS: Mapping[str, str] = {
    "disableforwarding": "yes",
    "exposeauthinfo": "yes",
    "authorizedkeyscommand": "none",
    "trustedusercakeys": "none",
    **LOGIN,
}
GATE: Mapping[str, str] = {"authorizedkeysfile": f"{places.KEPT}/gate_keys", **OURS}
ACCOUNTS: Mapping[str, str] = {"authorizedkeysfile": KEYS, **OURS, "usepam": "yes"}
"""Without PAM, sshd takes accounts that have no password for locked ones (sshd(8))."""
SERVED_BY = {
    "register": "nobody can register here",
    "iam": "the web page can neither nudge this server nor read its load",
}
"""The service accounts, and what doesn't work without each."""
SERVICES: Mapping[str, str] = {**ACCOUNTS, "unusedconnectiontimeout": "60"}
USERS: Mapping[str, str] = {**ACCOUNTS, "forcecommand": "lxc-gpu"}


@dataclass(frozen=True)
class SshdAccount:
    """An account to ask sshd about: which settings it needs, and where its logins come from."""

    name: str
    groups: frozenset[str]
    wanted: Mapping[str, str]
    addresses: tuple[str, ...]


@dataclass(frozen=True)
class SshdProblem:
    """Something wrong in what sshd does with an account."""

    text: str
    """It follows `For NAMES, `."""
    hint: str


def in_effect(server: CheckedServer) -> Iterator[Finding]:
    """Whether sshd lets in every user and the service accounts, with the right settings."""
    view = server.view
    residents = {view.account_of(name) for name in view.residents} if view else frozenset()
    names = [*SERVED_BY, *sorted(our_accounts() & residents)]
    found = {name: _account(server, name) for name in names}
    for name, use in SERVED_BY.items():
        if found[name] is None:
            yield area.wrong(
                f"The account {name} is missing: {use}.", "Run `setup/gpu-server` again."
            )
    yield from _judged(server, [account for account in found.values() if account])


def of_account(server: CheckedServer, name: str) -> list[Finding]:
    """The findings for one account."""
    account = _account(server, name)
    return list(_judged(server, [account])) if account else []


def gate(_: object) -> Iterator[Finding]:
    """Whether sshd on the web machine lets in the gate's account, with the right settings."""
    groups = _groups("lxc-gpu")
    account = SshdAccount("lxc-gpu", groups or frozenset(), GATE, (OUTSIDE,))
    yield from _findings([account], OUTSIDE, 22, files.read())


def _account(server: CheckedServer, name: str) -> SshdAccount | None:
    """What to ask sshd about an account; None if there is no such account."""
    groups = _groups(name)
    if groups is None:
        return None
    wanted = SERVICES if name in SERVED_BY else USERS
    own = server.view.address if server.view else OUTSIDE
    addresses = tuple(dict.fromkeys((own, OUTSIDE)))
    if name == "iam":
        addresses = tuple(web_machine(server.config)[:1]) or addresses[:1]
    return SshdAccount(name, groups, wanted, addresses)


def _groups(name: str) -> frozenset[str] | None:
    try:
        gids = os.getgrouplist(name, pwd.getpwnam(name).pw_gid)
    except KeyError:
        return None
    return frozenset(group for gid in gids if (group := _group(gid)))


def _group(gid: int) -> str:
    try:
        return getgrgid(gid).gr_name
    except KeyError:
        return ""


def _judged(server: CheckedServer, accounts: Sequence[SshdAccount]) -> Iterator[Finding]:
    here = server.view.servers[server.view.server] if server.view else None
    place = (here.address, here.ssh_port) if here else (OUTSIDE, 22)
    yield from _findings(accounts, *place, files.read())


def _findings(
    accounts: Sequence[SshdAccount], address: str, port: int, lines: Sequence[ConfigLine]
) -> Iterator[Finding]:
    """The findings for these accounts. sshd is asked once for all that it can't tell apart."""
    alike: dict[tuple[object, ...], list[SshdAccount]] = {}
    for account in accounts:
        alike.setdefault(sort_of(account, lines), []).append(account)
    troubled: dict[tuple[SshdProblem, str], list[str]] = {}
    good: list[str] = []
    for same in alike.values():
        names = [account.name for account in same]
        found: dict[SshdProblem, list[str]] = {}
        for client in same[0].addresses:
            connection = f"host={client},addr={client},laddr={address},lport={port}"
            words = ["sshd", "-T", "-C", f"user={names[0]},{connection}"]
            done = command.run(words, check=False, timeout=COMMAND_LIMIT)
            if not done.ok:
                last = (done.stderr.strip().splitlines() or ["no message"])[-1]
                yield area.wrong(f"sshd can't use its configuration: {last}", "sshd -t")
                return
            for trouble in troubles(done.stdout, same[0], client, lines):
                found.setdefault(trouble, []).append(client)
        for trouble, clients in found.items():
            some = "" if len(clients) == len(same[0].addresses) else ", ".join(clients)
            troubled.setdefault((trouble, some), []).extend(names)
        good += [] if found else names
    for (trouble, some), names in troubled.items():
        yield _said(trouble, names, some)
    if good:
        yield area.ok(f"our settings are in effect for {_named(good)}")


def _said(trouble: SshdProblem, names: Sequence[str], some: str) -> Finding:
    """The finding for a problem. `some`: the addresses that it is limited to; empty: none."""
    text = f"For {_named(names)}, {trouble.text}"
    if not some:
        return area.wrong(text, trouble.hint)
    return area.note(
        f"{text} This holds for logins from {some}.",
        f"Fine if nobody logs in from there. Otherwise: {trouble.hint}",
    )


def sort_of(account: SshdAccount, lines: Sequence[ConfigLine]) -> tuple[object, ...]:
    """A key that is equal for accounts that sshd can't tell apart. Pure.

    It holds an account's groups, and the patterns in lines about people that match its name.
    """
    judging = ("match", "allowusers", "denyusers")
    words = {w for li in lines if li.keyword in judging for w in re.split(r"[\s,]+", li.value)}
    patterns = {word.removeprefix("!") for word in words}
    named = {p for p in patterns if fits(p.rpartition("@")[0] or p, account.name)}
    return (account.groups, frozenset(named), tuple(account.wanted.items()), account.addresses)


def troubles(
    shown: str, account: SshdAccount, client: str, lines: Sequence[ConfigLine]
) -> Iterator[SshdProblem]:
    """What is wrong in what `sshd -T` says of an account, at most one problem of each kind."""
    effective: dict[str, str] = {}
    for name, _, value in (line.partition(" ") for line in shown.splitlines()):
        effective.setdefault(name, value)
    for name, value in account.wanted.items():
        if (has := effective.get(name, "-")) != value:
            hint = files.setting(lines, name, has, value)
            yield SshdProblem(f"sshd has {name} {has!r}, not {value!r}.", hint)
            break
    if refused := refusal(shown, SshLogin(account.name, account.groups, client)):
        yield _refused(refused, lines)


def _refused(refused: SshdRefusal, lines: Sequence[ConfigLine]) -> SshdProblem:
    words = " ".join(refused.patterns)
    line = files.of_keyword(lines, refused.keyword, refused.patterns)
    where = str(line) if line else "its configuration"
    text = f"sshd refuses every key: `{refused.keyword} {words}` ({where})"
    ours = f"{places.USERS_GROUP}, register and iam (on the web machine: lxc-gpu)"
    if refused.keyword.startswith("Deny"):
        return SshdProblem(f"{text} names them.", f"Take `{words}` out of {where}; {RELOAD}")
    if refused.keyword == "AllowGroups":
        return SshdProblem(f"{text} names no group of theirs.", f"Add {ours} in {where}; {RELOAD}")
    return SshdProblem(
        f"{text} doesn't name them.",
        f"In {where}, let groups in instead: AllowGroups with {ours} besides your own; {RELOAD}",
    )


def _named(names: Sequence[str]) -> str:
    if len(names) <= MOST_NAMED:
        return ", ".join(names)
    return f"{', '.join(names[:MOST_NAMED])} and {len(names) - MOST_NAMED} more"
