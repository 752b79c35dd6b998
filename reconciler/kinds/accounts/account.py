"""Host accounts of the registered users: made in one batch, disabled, never deleted.

Our accounts are those in the group `lxc-gpu-users`. Another account or group that has a user's
name, or a system account in that group, is a conflict: it is reported and never touched.
"""

from __future__ import annotations

import pwd
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from reconciler.host import nss, places
from reconciler.kinds.accounts import subids
from reconciler.kinds.accounts.account_files import (
    EXPIRED,
    GROUP,
    PASSWD,
    SHADOW,
    Account,
    AccountFiles,
    fields_of,
    sysusers_lines,
)
from reconciler.kinds.accounts.conflicts import Missing, conflict, find_conflicts, system_account
from reconciler.kinds.accounts.homes import home_ready, make_home, no_home, own_home
from reconciler.plan import Change, Lock, Observed, Tell
from state import command
from state.errors import LxcGpuError
from state.files import read_text
from state.view import View


class AccountKind:
    """Accounts of registered users."""

    name = "account"
    lock = Lock.GLOBAL
    per_user = True

    def desired(self, view: View) -> Mapping[str, Account]:
        """One enabled account for each resident."""
        return {
            name: Account(
                resident.uid,
                resident.full_name,
                str(places.LOGIN_SHELL),
                name=view.account_of(name),
            )
            for name, resident in view.residents.items()
        }

    def observe(self, view: View, names: Collection[str]) -> Observed[Account]:
        """The residents' accounts of these names, and others of ours that are still enabled."""
        files = AccountFiles(*(read_text(file) or "" for file in (PASSWD, SHADOW, GROUP)))
        found: dict[str, Account] = {}
        conflicts: dict[str, LxcGpuError] = {}
        accounts = files.accounts()
        theirs = _under_another_name(view, accounts)
        missing: dict[str, Missing] = {}
        for name in view.residents.keys() & frozenset(names):
            wanted = view.account_of(name)
            account = accounts[wanted] if wanted in accounts else theirs.get(name)
            if account is not None and not account.ours:
                same = account.uid == view.residents[name].uid
                conflicts[name] = conflict(wanted, same_uid=same)
            elif account is not None:
                ready = home_ready(account.name, account.uid)
                found[name] = account if ready else account._replace(home_ready=False)
            if wanted not in accounts:
                before = account.name if account else ""
                missing[name] = Missing(wanted, view.residents[name].uid, before)
        known = {*map(view.account_of, view.residents), *(each.name for each in theirs.values())}
        for other in accounts.keys() - known:
            left, whose = accounts[other], view.user_of(other)
            if left.ours and left.enabled:
                if left.uid < nss.FIRST_ORDINARY:
                    conflicts[whose] = system_account(other, left.uid)
                else:
                    found[whose] = left
        return Observed(found, conflicts | find_conflicts(missing))

    def apply(
        self, view: View, changes: Sequence[Change[Account]], tell: Tell
    ) -> Mapping[str, LxcGpuError]:
        """Make the missing accounts in one batch; change or disable the others one by one."""
        failed: dict[str, LxcGpuError] = {}
        for change in changes:  # first the accounts to be disabled, and whatever else may not wait
            try:
                if change.before is not None:
                    _modify(change.before, change.after)
            except LxcGpuError as error:
                failed[change.name] = error
        new = [c.after for c in changes if c.before is None and c.after is not None]
        if new:
            command.run(["systemd-sysusers", "-"], stdin=sysusers_lines(new))
        for change in changes:
            try:
                if change.after is not None and change.name not in failed:
                    make_home(change.after.name, change.after.uid)
            except LxcGpuError as error:
                failed[change.name] = error
            except OSError as error:
                failed[change.name] = no_home(view.account_of(change.name), error)
        return failed

    def describe(self, change: Change[Account]) -> str:
        """E.g. `make the account lqchen (uid 20031)`."""
        if change.after is None:
            return f"disable the account {change.before.name if change.before else change.name}"
        if change.before is None:
            return f"make the account {change.after.name} (uid {change.after.uid})"
        before, after = change.before._asdict(), change.after._asdict()
        fields = ", ".join(f"{f} {before[f]} -> {after[f]}" for f in after if before[f] != after[f])
        return f"change the account {before['name']}: {fields}"


def _under_another_name(view: View, accounts: Mapping[str, Account]) -> dict[str, Account]:
    """The residents' accounts that have another name than they should, by user.

    They are ours and have the resident's uid: another prefix was in force when they were made.
    """
    wanted = {view.account_of(name): name for name in view.residents}
    others = {a.uid: a for a in accounts.values() if a.ours and a.name not in wanted}
    without = {user: view.residents[user].uid for a, user in wanted.items() if a not in accounts}
    return {user: others[uid] for user, uid in without.items() if uid in others}


def _modify(before: Account, after: Account | None) -> None:
    if after is None:
        command.run(["usermod", "--expiredate", str(EXPIRED), before.name])
        return
    if before.uid != after.uid:
        raise LxcGpuError(
            "uid-changed",
            f"The account {before.name} has uid {before.uid}, the state says {after.uid}.",
            "lxc-gpu never changes a uid: restore users/*.yaml, or move the person's files "
            f"and run `usermod --uid {after.uid} {before.name}` by hand.",
        )
    if before.name != after.name:
        _rename(before.name, after.name, before.uid)
    words: list[str] = []
    if before.full_name != after.full_name:
        words += ["--comment", after.full_name]
    if before.shell != after.shell:
        words += ["--shell", after.shell]
    if not before.enabled:
        words += ["--expiredate", ""]
    if words:
        command.run(["usermod", *words, after.name])


def _rename(old: str, new: str, uid: int) -> None:
    """Rename the account with its group, subordinate ids and home.

    The account itself is renamed last, so that an interrupted renaming is found again. If a step
    fails, the steps before it are undone, as the old name still has to work. usermod(8) refuses
    while programs of the account run, and its container is one of them. They don't depend on the
    name, as the uid stays. So usermod is run where it sees no processes (pid_namespaces(7)).
    """
    home, wanted = Path(pwd.getpwnam(old).pw_dir), places.HOMES / new
    homes = ["--home", str(wanted)] if home == places.HOMES / old else []
    alone = ["unshare", "--pid", "--fork", "--mount-proc"]
    with ExitStack() as undo:
        subids.hand_over(old, new)
        undo.callback(subids.hand_over, new, old)
        if homes and own_home(old, uid) and not own_home(new, uid):
            try:
                home.rename(wanted)
            except OSError as error:
                raise no_home(new, error) from error
            undo.callback(wanted.rename, home)
        if any(fields[0] == old for fields in fields_of(read_text(GROUP) or "", 4)):
            command.run(["groupmod", "--new-name", new, old])
            undo.callback(command.run, ["groupmod", "--new-name", old, new])
        command.run([*alone, "usermod", "--login", new, *homes, old])
        undo.pop_all()
