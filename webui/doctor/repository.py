"""The state repository on this machine: owner, damage, hooks, gate; and the page's keys."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator, Sequence
from pathlib import Path

from state import command
from state.connections.penalties import may_be_punished
from state.errors import LxcGpuError
from state.git.commits import shown
from state.git.locks import abandoned
from state.git.plumbing import TOO_LONG, Plumbing
from state.model.keys import parse_key
from state.origin.gate_keys import gate_keys
from state.view import not_punished
from state.wire.findings import Area, Finding
from state.words import plural
from webui.doctor.iam import Iam

area, gate_area, keys_area = Area("state"), Area("gate"), Area("keys")
FSCK_LIMIT = 20.0
"""Seconds for one repository."""
HOOKS = ("pre-receive", "post-receive")
AGAIN = "Run `setup/web-server` again, which repairs it."


def keeps(iam: Iam) -> Iterator[Finding]:
    """Whether the repository exists, is ours, and contains a valid state."""
    if iam.local is not None:
        if not iam.local.is_dir():
            yield area.wrong(f"{iam.local} is missing.", "Restore it: any clone is a backup.")
            return
        if foreign := _not_ours(iam.local):
            yield area.wrong(
                f"{foreign} belongs to somebody else, so pushes will fail.",
                f"chown -R {_account()}: {iam.local}",
            )
    try:
        state = iam.state
    except LxcGpuError as error:
        first, *_ = error.message.splitlines()
        yield area.wrong(f"The newest state can't be used: {first}", error.hint)
        return
    count = len(state.users)
    yield area.ok(f"valid: {plural(count, 'user')}, {plural(len(state.servers), 'server')}")


def whole(iam: Iam) -> Iterator[Finding]:
    """Whether all objects can be read, and no lock file of a killed Git prevents pushes."""
    clones = (iam.config.clone, iam.config.clone.with_name("gate-clone"))
    if iam.local is not None and iam.local.is_dir():
        damage = _damage(iam.local)
        if damage:
            yield area.wrong(f"{iam.local} is damaged: {damage}.", _restore(iam.local, clones))
        for path in abandoned(iam.local):
            yield area.wrong(
                f"{path} prevents pushes; the Git that made it has ended.",
                f"The next push removes it; or: rm {path}",
            )
        if not damage:
            yield area.ok("no damage found in the state repository")
    for clone in clones:
        if clone.exists() and (damage := _damage(clone)):
            yield area.wrong(
                f"The clone {clone} is damaged: {damage}.",
                "The next save or registration replaces it. Is the disk all right? dmesg",
            )


def _damage(repository: Path) -> str:
    """The first line of git-fsck(1); empty if it finds nothing, or not in time."""
    done = Plumbing(repository).ask(("fsck", "--no-progress", "--no-dangling"), limit=FSCK_LIMIT)
    if done.status == 0 or TOO_LONG in done.errors:
        return ""
    lines = f"{done.errors}\n{done.output.decode('utf-8', 'replace')}".splitlines()
    return shown(next((line for line in lines if line.strip()), f"git fsck: {done.status}"))


def _restore(repository: Path, clones: Sequence[Path]) -> str:
    """The commands that restore the repository from an undamaged clone."""
    good = next((c for c in clones if c.exists() and not _damage(c)), "A-SYSADMINS-CLONE")
    return (
        f"mv {repository} {repository}.damaged;"
        f" runuser -u {_account()} -- git clone --bare {good} {repository}; setup/web-server"
    )


def _not_ours(repository: Path) -> Path | None:
    """A path in the repository that belongs to another account, if there is one."""
    own = os.getuid()
    for folder, _, files in os.walk(repository):
        for path in (Path(folder), *(Path(folder) / name for name in files)):
            if path.lstat().st_uid != own:
                return path
    return None


def _account() -> str:
    return pwd.getpwuid(os.getuid()).pw_name


def hooks(iam: Iam) -> Iterator[Finding]:
    """Whether the hooks that check pushes and let new servers in are in place."""
    if iam.local is None:
        yield area.ok("it is on another machine, which has its hooks")
        return
    good = []
    for name in HOOKS:
        path = iam.local / "hooks" / name
        if not path.exists():
            what = "pushes aren't checked" if name == HOOKS[0] else "new servers aren't let in"
            yield area.wrong(f"The {name} hook is missing: {what}.", AGAIN)
        elif not os.access(path, os.X_OK):
            yield area.wrong(
                f"The {name} hook isn't executable, so Git ignores it.", f"chmod 755 {path}"
            )
        else:
            good.append(name)
    if good:
        yield area.ok(f"hooks in place: {', '.join(good)}")


def gate(iam: Iam) -> Iterator[Finding]:
    """Whether the keys that open the gate are those in the state."""
    if iam.local is None:
        return
    path = iam.local.with_name("gate_keys")
    there = path.read_text(encoding="utf-8") if path.exists() else ""
    yield gate_finding(there, gate_keys(iam.state), str(path))


def gate_finding(there: str, wanted: str, path: str) -> Finding:
    """Whether the gate's keys are those in the state. Pure."""
    if there == wanted:
        return gate_area.ok("its keys are those in the state")
    lost = len(set(wanted.splitlines()) - set(there.splitlines()))
    more = len(set(there.splitlines()) - set(wanted.splitlines()))
    parts = [f"{lost} missing"] * bool(lost) + [f"{more} stale"] * bool(more)
    return gate_area.wrong(
        f"{path} differs from the keys in the state: {', '.join(parts) or 'another order'}.", AGAIN
    )


def penalties(iam: Iam) -> Iterator[Finding]:
    """Whether this sshd may block a server because of a container, which shares its address.

    `sshd -G` shows the settings without root. An sshd before 9.3 lacks it, and blocks nobody.
    """
    if iam.local is None:
        return
    servers, networks = iam.state.servers.values(), iam.state.fleet.lab_networks
    exempt = not_punished((str(each.address) for each in servers), map(str, networks))
    shown = command.run(["sshd", "-G"], check=False).stdout
    if missing := may_be_punished(shown, exempt):
        yield gate_area.note(
            f"sshd may block {', '.join(missing[:5])} for minutes because of one person there. The "
            "server could then neither fetch nor register.",
            "Run `setup/web-server` again: it exempts the state's servers and lab_networks.",
        )


def keys(iam: Iam) -> Iterator[Finding]:
    """Whether the page can read its keys, and is among the state's signers."""
    for path, purpose in ((iam.config.signing_key, "sign"), (iam.config.nudge_key, "nudge")):
        done = command.run(["ssh-keygen", "-y", "-P", "", "-f", path], check=False)
        if not done.ok:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            yield keys_area.wrong(f"The page can't {purpose} with {path}: {last}", AGAIN)
        elif purpose == "sign":
            yield _believed(iam, done.stdout.strip())
        else:
            yield keys_area.ok("the key for nudges can be read")


def _believed(iam: Iam, public: str) -> Finding:
    blob = parse_key(public).blob
    for signer in iam.state.fleet.signers:
        if signer.key.blob == blob and signer.role == "iam":
            return keys_area.ok(f"the page signs as {signer.name}, a signer of fleet.yaml")
    kind, body = public.split()[:2]
    return keys_area.wrong(
        "The page's signing key is not among the signers in fleet.yaml: its commits are refused.",
        f'An admin adds to `signers:`: {{name: IAM, role: iam, key: "{kind} {body}"}}',
    )
