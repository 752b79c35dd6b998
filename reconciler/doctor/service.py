"""Checks of lxc-gpu itself on this server: units, rounds, the way to the state repository."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from reconciler.doctor.server import UNITS, CheckedServer, as_nobody, output, unit_properties
from reconciler.host import in_words, places
from reconciler.host.boot import boot_clock, boot_id
from reconciler.host.config import ssh_command
from reconciler.host.status import read_status
from reconciler.host.suspension import suspension
from reconciler.load.idle_stop import TWICE
from reconciler.load.idleness import DAY, IdleRecord, read_record
from reconciler.network import conntrack
from reconciler.plan import Planned, plan
from reconciler.reservations import book_file as reservations
from state import command
from state.errors import LxcGpuError
from state.view import View
from state.wire.findings import Area, Finding
from state.wire.messages import Report
from state.words import plural

ROUND_OVERDUE = 900
"""Seconds within which a round should have ended: the timer starts one about every five minutes."""
LOOK_OVERDUE = 1800
"""Seconds within which a look at who uses their containers should have ended: one comes about every
ten minutes."""
FUTURE = 60
"""Seconds by which the clocks of two machines may differ."""
AT_BOOT = "lxc-gpu-come-back.service"
"""This unit runs once at each boot: on a server that was set up since, it hasn't run yet."""
FASTER = "lxc-gpu-loaded.service"
"""This unit only saves time: without it, nothing is left undone."""
MOST_SAID = 5
"""Failures of a round that are listed one by one; the others are counted."""

units_area, round_area, state_area = Area("units"), Area("round"), Area("state")
reservations_area = Area("reservations")


def units(_: CheckedServer) -> Iterator[Finding]:
    """Whether our sockets, timers and services are active."""
    good = []
    for path in sorted(UNITS.glob("lxc-gpu*")):
        if "@" in path.name or path.is_dir() or "[Install]" not in path.read_text():
            continue
        shown = unit_properties(
            path.name, "ActiveState", "SubState", "UnitFileState", "NeedDaemonReload"
        )
        if problem := unit_problem(path.name, shown):
            yield problem
        else:
            good.append(path.name.removeprefix("lxc-gpu-"))
    yield units_area.ok(f"active: {', '.join(good) or 'none'}")
    for name in ("lxc-gpu-root.socket", "lxc-gpu-reconcile.timer"):
        if not (UNITS / name).exists():
            yield units_area.wrong(f"{name} is not installed.", "Run `setup/gpu-server` again.")


def unit_problem(name: str, shown: Mapping[str, str]) -> Finding | None:
    """What is wrong with a unit, by its properties in systemd; None if nothing is. Pure."""
    active = shown.get("ActiveState", "unknown")
    if shown.get("SubState") == "auto-restart":
        active = "ending again and again"
    waits = name == AT_BOOT and active == "inactive"
    say = units_area.note if name == FASTER else units_area.wrong
    if active not in ("active", "activating", "reloading") and not waits:
        return say(
            f"{name} is {active}: {_without(name)}",
            f"systemctl enable --now {name}; `systemctl status {name}` says why it ended.",
        )
    if shown.get("UnitFileState") == "disabled":
        return say(
            f"{name} runs, but is disabled: after a reboot it won't start.",
            f"systemctl enable {name}",
        )
    if shown.get("NeedDaemonReload") == "yes":
        return units_area.note(
            f"{name} was changed on disk since systemd read it.", "systemctl daemon-reload"
        )
    return None


def _without(name: str) -> str:
    if name.endswith(".socket"):
        return "nobody can start a container or register."
    if name == "lxc-gpu-idleness.timer":
        return "nobody is told that their container stands idle."
    if name == "lxc-gpu-announced.timer":
        return "no container is shut down for an announcement, or comes back after it."
    if name == "lxc-gpu-reservations.timer":
        return "nobody is told that their program is on a GPU that somebody else reserved."
    if name == "lxc-gpu-snapshots.timer":
        return "no snapshot is taken automatically (`snapshots: every`)."
    if name.endswith(".timer"):
        return "no round runs unless the web page asks for one."
    if name == FASTER:
        return "all requests work, and take a tenth of a second more."
    if name == "lxc-gpu-watch.service":
        return "what is changed by hand is put back minutes later, not at once."
    return "what it does is left undone."


def containers(server: CheckedServer) -> Iterator[Finding]:
    """Whether containers failed, or are down for an announcement."""
    closed = server.view and server.view.closed_by(time.time())
    if closed:
        yield units_area.note(
            f"Containers are down until {in_words.moment_in_zone(closed.ends)} for the "
            f"announcement {closed.name}.",
            f"They come back then; sooner, if announcements/{closed.name}.yaml is removed.",
        )
    listing = output("systemctl", "list-units", "--all", "--plain", "--no-legend", "lxc-gpu@*")
    fields = [line.split() for line in listing.splitlines()]
    states = {f[0].split("@")[1].removesuffix(".service"): f[2] for f in fields if len(f) > 3}
    for user in sorted(name for name, active in states.items() if active == "failed"):
        yield units_area.wrong(
            f"The container of {user} failed.",
            f"lxc-gpu doctor --user {user}; journalctl -u {places.container_unit(user)} -n 20",
        )
    up = sum(active == "active" for active in states.values())
    yield units_area.ok(plural(up, "container runs", "containers run"))


def last_round(_: CheckedServer) -> Iterator[Finding]:
    """When the last round ended, and with what result."""
    held = suspension()
    yield from round_findings(read_status(), time.time(), held.words() if held else "")


def round_findings(report: Report | None, now: float, held: str = "") -> Iterator[Finding]:
    """What the last round's report means. Pure.

    `held`: why the server is suspended, if it is.
    """
    if held:
        yield round_area.note(f"Suspended, so rounds change nothing: {held}", "lxc-gpu resume")
    if report is None:
        yield round_area.wrong("No round has ended on this server yet.", "lxc-gpu reconcile")
        return
    ago = now - report.finished
    if ago < -FUTURE:
        yield round_area.wrong(
            f"The last round ended {-ago / 60:.0f} minutes in the future: the clock was set back.",
            "timedatectl; then `lxc-gpu reconcile`",
        )
    elif ago > ROUND_OVERDUE and not held:
        yield round_area.wrong(
            f"The last round ended {duration(ago)} ago; one should come every five minutes.",
            "systemctl status lxc-gpu-reconcile.timer lxc-gpu-reconcile.service",
        )
    else:
        yield round_area.ok(
            f"the last one ended {duration(max(0, ago))} ago, at revision {report.revision[:10]}"
        )
    if report.refused:
        first, *rest = report.refused.splitlines()
        yield round_area.wrong(f"The newest revision is refused: {first}", " ".join(rest))
    for failure in report.failures[:MOST_SAID]:
        words = f"It failed for {failure.about}: {failure.message}"
        found = round_area.met(failure.error(), words)
        yield found if found.hint else replace(found, hint="lxc-gpu reconcile shows it again.")
    if len(report.failures) > MOST_SAID:
        more = len(report.failures) - MOST_SAID
        yield round_area.wrong(f"It failed for {more} more.", "lxc-gpu status lists them.")
    if report.drift:
        last = report.drift[-1]
        yield round_area.note(
            f"Changed by hand {duration(max(0, now - last.when))} ago, put back since: "
            f"{last.words}",
            "`lxc-gpu status` lists what drifted: somebody or some program works against lxc-gpu.",
        )


def last_look(server: CheckedServer) -> Iterator[Finding]:
    """Whether idle containers are looked for, where the state has a policy for them."""
    if server.view is not None and server.view.idle_days is not None:
        record = read_record()
        yield look_finding(record, boot_id(), boot_clock())
        yield from untold(server.view, record)
        try:
            conntrack.connected_to(())
        except OSError as error:
            yield unseen_connections(error)


def unseen_connections(error: OSError) -> Finding:
    """What it means that the kernel lists no connections. Pure."""
    return units_area.wrong(
        f"The kernel doesn't list connections to containers ({error.strerror or error}): so "
        "none counts as idle, and none is named or stopped.",
        "modprobe nf_conntrack_netlink; a kernel of your own needs CONFIG_NF_CT_NETLINK.",
    )


def untold(view: View, record: IdleRecord) -> Iterator[Finding]:
    """The finding for idle containers that run on because no mail about it was accepted. Pure."""
    stop = view.idle_stop_days
    late = [
        user
        for user, unused in sorted(record.containers.items())
        if stop is not None
        and user in view.residents
        and not view.residents[user].keep
        and unused.seconds >= (stop + 1) * DAY
        and len(unused.told) < TWICE
    ]
    if late:
        yield units_area.wrong(
            f"Nobody has used the container of {late[0]}"
            + (f", and {len(late) - 1} others," if late[1:] else "")
            + (
                f" for {stop} days. It is not stopped, because no mail to its user about that "
                "was accepted."
            ),
            "Set mail up in /etc/lxc-gpu/web.toml on the web machine; `lxc-gpu doctor` there "
            "checks it. Without mail nothing is stopped.",
        )


def look_finding(record: IdleRecord, boot: str, now: float) -> Finding:
    """What the age of the last look means; the times are seconds since the boot. Pure."""
    ago = now - (record.looked if record.boot == boot else 0)
    if ago > LOOK_OVERDUE:
        since = " (so long ago was the boot)" if record.boot != boot else ""
        return units_area.wrong(
            f"Nothing has looked for idle containers for {duration(ago)}{since}.",
            "systemctl status lxc-gpu-idleness.timer lxc-gpu-idleness.service",
        )
    if record.boot != boot:
        return units_area.ok("the first look for idle containers comes soon after the boot")
    return units_area.ok(f"the last look for idle containers was {duration(ago)} ago")


def book_of_reservations(_: CheckedServer) -> Iterator[Finding]:
    """Whether the book of reservations can be read."""
    try:
        count = len(reservations.read().ahead(time.time()))
    except LxcGpuError as error:
        yield reservations_area.met(error)
        return
    yield reservations_area.ok(f"{plural(count, 'reservation')} of GPUs to come")


def duration(seconds: float) -> str:
    """A length of time in words."""
    for size, name in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {name}"
    return f"{seconds:.0f} s"


def differs(server: CheckedServer) -> Iterator[Finding]:
    """Whether the server is as its revision says: what `lxc-gpu plan` would show."""
    from reconciler.rounds.order import KINDS

    if server.view is None:
        return
    lines = plan(KINDS, server.view)
    if not lines:
        yield round_area.ok("nothing differs from what the state says")
    report = read_status()
    for line in lines[:MOST_SAID]:
        yield differing(round_area, line, report, "lxc-gpu reconcile")
    if len(lines) > MOST_SAID:
        more = len(lines) - MOST_SAID
        yield round_area.wrong(f"{more} more things differ.", "lxc-gpu plan lists them.")


def differing(area: Area, line: Planned, report: Report | None, cure: str) -> Finding:
    """What one line of the plan means. Pure.

    A round that failed at it, or will, is no cure: the hint is then that of what is in the way.
    """
    if line.failure is not None:
        return area.met(line.failure.error(), f"Can't be put right: {line.words}")
    text = f"Not as the state says: {line.words}"
    for failure in report.failures if report else ():
        if (failure.kind, failure.name) == (line.kind, line.name):
            why = f"{text}. The last round failed at that: {failure.message}"
            found = area.met(failure.error(), why)
            return found if found.hint else replace(found, hint=cure)
    return area.wrong(text, cure)


def state_repository(server: CheckedServer) -> Iterator[Finding]:
    """Whether this server can read the state repository, from the machine whose key is pinned."""
    env = {"GIT_SSH_COMMAND": f"{ssh_command()} -o ConnectTimeout=5", "GIT_TERMINAL_PROMPT": "0"}
    words = ["git", "ls-remote", server.config.state_url, "refs/heads/main"]
    done = command.run(words, env=env, check=False, timeout=15)
    if not done.ok:
        text, hint = why_unreachable(done.stderr, server.config.gate, server.config.name)
        yield state_area.wrong(text, hint)
        return
    newest = (done.stdout.split() or [""])[0]
    if server.view is not None and newest != server.view.revision:
        yield state_area.note(
            f"There is a newer revision, {newest[:10]} (here: {server.view.revision[:10]}).",
            "lxc-gpu reconcile takes it now, or says why not.",
        )
    else:
        yield state_area.ok(f"{server.config.gate} answers; this server has the newest revision")


def why_unreachable(said: str, gate: str, name: str) -> tuple[str, str]:
    """What an error of git or ssh means, and what to do. Pure."""
    machine = gate.rsplit("@", 1)[-1]
    if "Host key verification failed" in said or "HOST IDENTIFICATION HAS CHANGED" in said:
        return (
            f"What answers as {machine} has another ssh host key than the pinned one.",
            f"If it was installed anew: setup/gpu-server with its new --gate-host-key; the pinned "
            f"one is in {places.STATE_KNOWN_HOSTS}.",
        )
    if "Permission denied" in said:
        return (
            f"{machine} refuses this server's key.",
            f"servers/{name}.yaml needs `state_key:` from {places.STATE_KEY}.pub; "
            f"on {machine}: lxc-gpu doctor",
        )
    if "Could not resolve" in said:
        return f"The name {machine} has no address here.", f"getent hosts {machine}"
    if any(w in said for w in ("timed out", "refused", "No route", "unreachable")):
        return (
            f"{machine} can't be reached: no changes arrive, but everything here goes on.",
            f"Is it up, and is its ssh port open from here? ssh -v {gate}",
        )
    last = (said.strip().splitlines() or ["no message"])[-1]
    return f"The state repository can't be read: {last}", f"ssh -v {gate}; journalctl there"


def newest_commit(server: CheckedServer) -> Iterator[Finding]:
    """Whether the newest commit is dated in the future, by this server's clock."""
    if server.view is None or not places.STATE_CLONE.exists():
        return
    shown = output("git", "-C", places.STATE_CLONE, "log", "-1", "--format=%ct",
                   server.view.revision).strip()  # fmt: skip
    ahead = int(shown) - time.time() if shown.isdigit() else 0
    if ahead > FUTURE:
        yield Area("clock").wrong(
            f"The newest commit is {duration(ahead)} in the future: a clock is wrong.",
            "Compare `date` here, on the web machine and where the commit was made.",
        )


def login_shell(_: CheckedServer) -> Iterator[Finding]:
    """Whether the manage accounts' login shell runs, as an account without any rights."""
    done = as_nobody(places.LOGIN_SHELL, "-c", "help")
    area = Area("shells")
    if done.ok and "start" in done.stdout:
        yield area.ok("the login shell of the manage accounts runs")
    else:
        last = (done.stderr.strip().splitlines() or ["it printed nothing"])[-1]
        yield area.wrong(
            f"The login shell of the manage accounts doesn't run: {last}",
            "Run `setup/gpu-server` again; it makes /opt/lxc-gpu and "
            f"{Path(places.EXECUTABLES)} anew.",
        )
