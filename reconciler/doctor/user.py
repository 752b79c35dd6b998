"""`lxc-gpu doctor --user NAME`: what a sysadmin looks at when somebody says "it doesn't work"."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass

from reconciler.doctor import service
from reconciler.doctor.network import cut_off
from reconciler.doctor.server import CheckedServer, output, text_of
from reconciler.doctor.sshd import in_effect as sshd
from reconciler.host import marker, places
from reconciler.host.status import read_status
from reconciler.kinds.traffic.port_map import SSH, PortMapKind
from reconciler.network.ports import ports
from reconciler.plan import plan
from reconciler.requests import login
from reconciler.requests.unit import power_of
from reconciler.systems.way_in import unmended
from state.errors import LxcGpuError
from state.view import Resident, View
from state.wire.findings import Area, Finding, Level

MOST_SAID = 5
NOT_SAVED = "Most likely a key that isn't saved: compare with the keys above."
_WHY = {
    "not allowed because": "sshd refused the account itself at that moment, whatever the key.",
    "Too many authentication failures": "Their ssh offered other keys first: the comments in "
    "their ~/.ssh/lxc-gpu.config say what to add (IdentitiesOnly).",
}
"""What phrases in sshd's log mean. A line without one of them: NOT_SAVED."""
state_area, account_area, keys_area = Area("state"), Area("account"), Area("keys")
container_area, ssh_area, journal_area = Area("container"), Area("ssh"), Area("journal")


@dataclass(frozen=True)
class CheckedUser:
    """The user to check, on this server."""

    server: CheckedServer
    view: View
    name: str

    @property
    def account(self) -> str:
        """The name of the person's manage account."""
        return self.view.account_of(self.name)

    @property
    def resident(self) -> Resident | None:
        """The person's place on this server; None if not registered."""
        return self.view.residents.get(self.name)


def known(person: CheckedUser) -> Iterator[Finding]:
    """Whether the state knows the person, with keys, and has them registered here."""
    here = person.view.server
    keys = person.view.registrants.get(person.name)
    if keys is None:
        yield state_area.wrong(
            f"{person.name} is not a user of the fleet (at revision {person.view.revision[:10]}).",
            "They save a key on the web page first. A login isn't always the name: "
            "`lxc-gpu doctor --login LOGIN` on the web machine says which name they get.",
        )
        return
    yield state_area.ok(f"{person.name} is a user of the fleet")
    if not keys:
        yield keys_area.wrong("No ssh key is saved.", "They save one on the web page.")
    elif person.resident is None:
        yield state_area.wrong(
            f"{person.name} is not registered on {here}.",
            f"They type, once: ssh register@{here}-manage {person.name}",
        )
    else:
        resident = person.resident
        of_its_own = "" if person.account == person.name else f", as {person.account}"
        yield state_area.ok(
            f"registered here{of_its_own}: uid {resident.uid}, port {resident.port}, "
            f"{resident.address}"
        )


def keys(person: CheckedUser) -> Iterator[Finding]:
    """Which keys open the manage account, and whether sshd sees them."""
    saved = person.view.registrants.get(person.name, ())
    if not saved or person.resident is None:
        return
    path = places.AUTHORIZED_KEYS / person.account
    there = text_of(path) or ""
    if missing := [key for key in saved if key not in there]:
        yield keys_area.wrong(
            f"{len(missing)} of {len(saved)} saved keys are not in {path}.", "lxc-gpu reconcile"
        )
    printed = output("ssh-keygen", "-l", "-f", "/dev/stdin", stdin="\n".join(saved) + "\n")
    for line in printed.splitlines():
        yield keys_area.ok(" ".join(line.split()[1:])[:90])


def let_in(person: CheckedUser) -> Iterator[Finding]:
    """Whether sshd's configuration lets them in, whichever key they have."""
    if person.resident is not None:
        yield from sshd.of_account(person.server, person.account)


def as_wanted(person: CheckedUser) -> Iterator[Finding]:
    """What a round would change for this user."""
    from reconciler.rounds.order import KINDS

    lines = [line for line in plan(KINDS, person.view, person.name) if line.name == person.name]
    report = read_status()
    for line in lines:
        yield service.differing(account_area, line, report, f"lxc-gpu reconcile --user {line.name}")
    if not lines and person.resident:
        yield account_area.ok("account, subordinate ids, keys and container are as the state says")


def container(person: CheckedUser) -> Iterator[Finding]:
    """Whether the container is there, runs, and answers."""
    if person.resident is None:
        return
    unit = places.container_unit(person.name)
    try:
        if not marker.system_there(person.view, person.name):
            return  # `as_wanted` says so
    except LxcGpuError as error:
        yield container_area.met(error)
        return
    power = power_of(person.name)
    if power.active == "failed":
        yield container_area.wrong(f"{unit} failed.", f"journalctl -u {unit} -n 30")
    elif not power.running:
        yield container_area.note(
            f"The container is not running ({power.active}): nobody gets into it.",
            f"They type: ssh {person.view.server}-manage",
        )
    else:
        yield container_area.ok(f"running since {power.since}")
        lost = cut_off(ports(), person.name, person.resident.uid)
        yield sshd_answers(person.resident.address) if lost is None else lost
        yield from way_in(person, person.resident)


def way_in(person: CheckedUser, resident: Resident) -> Iterator[Finding]:
    """Whether a login can succeed: the way to the keys, and the user's shell."""
    here = person.view.server
    for step in unmended(person.view, person.name, resident):
        yield container_area.wrong(f"{step} keeps the container's sshd from reading the keys.",
                                   f"They type `ssh {here}-manage`, which mends it.")  # fmt: skip
    for why in login.why_not(person.name):
        yield container_area.wrong(f"A login fails. {why}",
                                   f"They mend it by `ssh -t {here}-manage shell`.")  # fmt: skip


def sshd_answers(address: str) -> Finding:
    """Whether the container's sshd sends its banner."""
    try:
        with socket.create_connection((address, SSH), timeout=3) as connection:
            banner = connection.recv(100)
    except OSError as error:
        return container_area.wrong(
            f"The container runs, but nothing answers at {address}:22 ({error}).",
            "Its own sshd or network is broken: they type `ssh SERVER-manage restart`.",
        )
    text = banner.decode("ascii", "replace").strip()
    if banner.startswith(b"SSH-"):
        return container_area.ok(f"its sshd answers at {address}:22 ({text})")
    return container_area.wrong(f"What answers at {address}:22 is not sshd: {text[:60]!r}.")


def mapping(person: CheckedUser) -> Iterator[Finding]:
    """Whether the person's port leads to the container."""
    if person.resident is None:
        return
    wanted = PortMapKind().desired(person.view)[person.name]
    there = PortMapKind().observe(person.view, [person.name]).found.get(person.name)
    where = f"{person.view.address}:{person.resident.port}"
    if there == wanted:
        yield ssh_area.ok(f"{where} leads to the container")
    else:
        yield ssh_area.wrong(f"{where} doesn't lead to the container.", "lxc-gpu reconcile")


def logins(person: CheckedUser) -> Iterator[Finding]:
    """What sshd logged about this user lately, above all which keys it refused."""
    said = _newest(400, "-o", "short-iso", "-t", "sshd", "-t", "sshd-session")
    refuses = any(finding.level is Level.WRONG for finding in let_in(person))
    why = "sshd refuses them whatever key they have: see above." if refuses else ""
    yield from login_findings("\n".join(said), person.account, why)


def login_findings(said: str, name: str, why: str = "") -> Iterator[Finding]:
    """The last login that worked and the last ones that didn't, with `why`, if known. Pure."""
    about = re.compile(
        rf"\b(Accepted|Failed|Invalid|Connection closed by) .*\b{re.escape(name)}\b"
        rf"|\bUser {re.escape(name)} from .* not allowed because"
        rf"|\bDisconnecting authenticating user {re.escape(name)} .* Too many authentication"
    )
    lines = [line for line in said.splitlines() if about.search(line)]
    good = [line for line in lines if "]: Accepted " in line]
    bad = [line for line in lines if "]: Accepted " not in line]
    if good:
        yield ssh_area.ok(f"last login to the manage account: {_short(good[-1])}")
    for line in bad[-MOST_SAID:]:
        if not good or line > good[-1]:
            likely = next((means for words, means in _WHY.items() if words in line), NOT_SAVED)
            yield ssh_area.note(f"refused: {_short(line)}", why or likely)


def _short(line: str) -> str:
    moment, _, rest = line.partition(" ")
    return f"{rest.partition(']: ')[2][:110]} ({moment[:16].replace('T', ' ')})"


def errors(person: CheckedUser) -> Iterator[Finding]:
    """What our programs and the container's unit reported as failed in the last day."""
    if person.name not in person.view.registrants:
        return
    unit = places.container_unit(person.name)
    ours = _newest(500, "-o", "cat", "-t", "lxc-gpu")
    word = re.compile(rf"\b{re.escape(person.name)}\b")
    bad = re.compile(r"FAILED|refus|error|failed|crash", re.IGNORECASE)
    lines = [line for line in ours if word.search(line) and bad.search(line)]
    lines += _newest(MOST_SAID, "-o", "cat", "-u", unit, "-p", "warning")
    lines = list(dict.fromkeys(lines))
    for line in lines[-MOST_SAID:]:
        yield journal_area.note(line.strip()[:200])
    if not lines:
        yield journal_area.ok("no errors in the last day")
    else:
        today = time.strftime("%Y-%m-%d")
        yield journal_area.ok(f"more: journalctl --since {today} -t lxc-gpu -u {unit}")


def _newest(most: int, *words: str) -> list[str]:
    """The newest `most` lines of the last day in the journal, the newest last.

    With `--since`, journalctl counts from the first line on unless the order is reversed.
    """
    limits = ["--since=-1day", "--reverse", f"--lines={most}"]
    return output("journalctl", "-q", *limits, *words).splitlines()[::-1]
