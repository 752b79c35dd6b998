"""`status`: whether the container runs, what it uses of what it may, and what it sees."""

from __future__ import annotations

from dataclasses import asdict

from reconciler import power, usage
from reconciler.newest import current_view
from reconciler.plan import Tell
from reconciler.systems.standing import standing
from reconciler.systems.undertaking import Undertaking, last
from reconciler.usage import DiskUse, MountSeen
from shells import messages
from shells.ports_in_words import line
from shells.verbs import Asked, facts, forwards_of
from state import wire
from state.view import Limits


def answer(asked: Asked, tell: Tell) -> wire.Answer:
    """Look, and change nothing."""
    view, user = current_view(), asked.user
    resident = power.resident_of(view, user)
    now = power.power_of(user)
    limits = view.limits_of(user)
    most = usage.memory_limit(user)
    disk = usage.disk_use(view, user, resident)
    mounts = usage.mounts_seen(view, user) if now.running else ()
    lines = [f"Your container on {view.server}: {'running' if now.running else 'stopped'}"]
    if now.running:
        tasks = "-" if now.tasks is None else str(now.tasks)
        lines += [
            f"  since    {now.since}",
            f"  memory   {messages.size(now.memory)}{_of(messages.size(most), most)}",
            f"  tasks    {tasks}{_of(str(limits.tasks), limits.tasks)}",
        ]
        lines += [] if limits.cpus is None else [f"  cpus     up to {limits.cpus} at a time"]
    lines += [f"  disk     {_disk(disk, limits)}"]
    lines += [_mount(seen) for seen in mounts]
    lines += [f"  address  {resident.address} (inside this server)"]
    there, work = standing(view, user), last(user)
    lines += [] if work is None else [f"  files    {_in_words(work)}"]
    if there.since is not None:
        lines += [f"  before   a previous system is kept since {messages.moment(there.since)}: "
                  "`recover --undo`, `recover --forget`"]  # fmt: skip
    lines += [messages.how_to_log_in(view, user, resident)] if now.running else []
    lines += line(forwards_of(user))
    lines += [] if now.running else [f"Start it:  ssh {view.server}-manage"]
    more = {
        "since": now.since,
        "memory_bytes": now.memory,
        "tasks": now.tasks,
        "previous_since": there.since,
        "last_work": None if work is None else asdict(work),
        "memory_limit_bytes": most,
        "tasks_limit": limits.tasks,
        "cpus_limit": limits.cpus,
        "disk_bytes": disk.used,
        "disk_bytes_at_least": disk.at_least,
        "disk_limit_bytes": limits.disk,
        "mounts": [
            {**asdict(seen.mount), "there": seen.there, "why_not": seen.why_not} for seen in mounts
        ],
    }
    return wire.Answer("\n".join(lines), {**facts(view, user, running=now.running), **more})


def _in_words(work: Undertaking) -> str:
    if work.ended is None:
        return f"{work.what}: under way since {messages.moment(work.begun)}"
    if work.failed:
        return f"{work.what}: not done ({messages.moment(work.ended)}): {work.failed}"
    return f"{work.what}: done ({messages.moment(work.ended)})"


def _of(words: str, limit: int | None) -> str:
    return "" if limit is None else f" of {words}"


def _disk(disk: DiskUse, limits: Limits) -> str:
    least = "at least " if disk.at_least else ""
    asked = "" if limits.disk is None else f" (please stay below {messages.size(limits.disk)})"
    return f"{least}{messages.size(disk.used)}{asked}"


def _mount(seen: MountSeen) -> str:
    what = {"own": "your own folder", "read-only": "read-only", "shared": "shared by everybody"}
    words = what[seen.mount.access] if seen.there else f"NOT THERE. {seen.why_not}"
    return f"  mount    {seen.mount.target}: {words}"
