"""Whether sshd does with our accounts what our piece of its configuration says.

sshd_config(5): of the Match blocks that fit, the first value wins, and they all win over what
stands outside of one. So a block in a piece that is sorted before ours may win over ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from reconciler.doctor.server import COMMAND_LIMIT, Server, our_accounts, text_of
from reconciler.host import places
from state import command
from state.wire.findings import Area, Finding

area = Area("sshd")
MAIN = Path("/etc/ssh/sshd_config")
PIECES = Path("/etc/ssh/sshd_config.d")
OURS = "20-lxc-gpu"
KEYS = f"{places.AUTHORIZED_KEYS}/%u"
NO_OTHER_KEYS = {"authorizedkeyscommand": "none", "trustedusercakeys": "none"}
SERVICES: Mapping[str, str] = {
    "authorizedkeysfile": KEYS,
    "disableforwarding": "yes",
    "exposeauthinfo": "yes",
    **NO_OTHER_KEYS,
}
USERS: Mapping[str, str] = {**SERVICES, "forcecommand": "lxc-gpu"}
LOGIN = {"pubkeyauthentication": "yes"}
GATE: Mapping[str, str] = {"authorizedkeysfile": "/var/lib/lxc-gpu/gate_keys", **LOGIN,
                           "disableforwarding": "yes", "exposeauthinfo": "yes"}  # fmt: skip


def in_effect(server: Server) -> Iterator[Finding]:
    """What sshd would do with a user and the service accounts."""
    residents = server.view.residents if server.view else {}
    users = sorted(our_accounts() & residents.keys())[:1]
    yield from _accounts({"register": SERVICES, "iam": SERVICES, **dict.fromkeys(users, USERS)})


def gate(_: object) -> Iterator[Finding]:
    """The same on the IAM machine, for the gate."""
    yield from _accounts({"lxc-gpu": GATE})


def _accounts(accounts: Mapping[str, Mapping[str, str]]) -> Iterator[Finding]:
    pieces = _pieces()
    good = []
    for account, wanted in accounts.items():
        connection = f"user={account},host=localhost,addr=127.0.0.1"
        done = command.run(["sshd", "-T", "-C", connection], check=False, timeout=COMMAND_LIMIT)
        if not done.ok:
            last = (done.stderr.strip().splitlines() or ["no words"])[-1]
            yield area.wrong(f"sshd can't use its configuration: {last}", "sshd -t")
            return
        if problem := judged(account, done.stdout, {**LOGIN, **wanted}, pieces):
            yield problem
        else:
            good.append(account)
    if good:
        yield area.ok(f"our piece of its configuration holds for {', '.join(good)}")


def judged(
    account: str, shown: str, wanted: Mapping[str, str], pieces: Mapping[str, str]
) -> Finding | None:
    """What is wrong with what `sshd -T` says of an account, and who is to blame. Pure.

    `pieces`: the files that sshd reads, in its order, by name.
    """
    lines = (line.split(" ", 1) for line in shown.splitlines() if " " in line)
    effective: dict[str, str] = {}
    for name, value in lines:
        effective.setdefault(name, value)
    for name, value in wanted.items():
        if effective.get(name) == value:
            continue
        return area.wrong(
            f"For {account}, sshd has {name} {effective.get(name, '-')!r}, not {value!r}.",
            _blame(name, pieces),
        )
    return None


def _blame(name: str, pieces: Mapping[str, str]) -> str:
    check = "; then: sshd -t && systemctl reload ssh"
    ours = [file for file in pieces if OURS in file]
    if not ours:
        return f"Run `setup/gpu-server` (`setup/web-server`) again: {PIECES} lacks our piece{check}"
    for file, text in pieces.items():
        if file == ours[0]:
            break
        if any(line.split()[:1] and line.split()[0].lower() == name for line in text.splitlines()):
            return f"{file} is read before {ours[0]}: rename it to sort after ours{check}"
    return f"Is `Include {PIECES}/*.conf` the first line of {MAIN}{check}"


def _pieces() -> dict[str, str]:
    """The files that sshd reads, in its order; what stands before the Include comes first."""
    main = text_of(MAIN) or ""
    before, include, _ = main.partition("\nInclude ")
    pieces = {str(MAIN): before}
    if include or main.startswith("Include "):
        pieces |= {str(p): text_of(p) or "" for p in sorted(PIECES.glob("*.conf"))}
    return pieces
