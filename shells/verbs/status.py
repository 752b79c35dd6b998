"""`status`: whether the container runs, what it uses of what it may, and what it sees."""

from __future__ import annotations

import time
from dataclasses import asdict

from reconciler.container.undertaking import Undertaking, last
from reconciler.cpus import machine
from reconciler.host import in_words
from reconciler.host.published import current_view, resident_of
from reconciler.kinds.containers.cpu_set import cpus_of
from reconciler.load import idle_stop
from reconciler.load.idleness import unused_for
from reconciler.nvidia import nodes
from reconciler.plan import Tell
from reconciler.requests import container_use, devices, power
from reconciler.requests.container_use import DiskUse, MountSeen
from reconciler.requests.power import Power
from reconciler.reservations import waiting
from reconciler.reservations.overview import overview
from reconciler.systems.inventory import Systems, systems_of
from shells.verbs import VerbRequest, facts, forwards_of, idle_facts, words
from shells.verbs.ports import line
from state.view import Limits
from state.wire import messages


def answer(asked: VerbRequest, tell: Tell) -> messages.Answer:
    """Look, and change nothing."""
    view, user = current_view(), asked.user
    resident, now = resident_of(view, user), power.power_of(user)
    limits, most = view.limits_of(user), container_use.memory_limit(user)
    cpus = machine.in_words(cpus_of(user))
    disk = container_use.disk_use(view, user, resident)
    mounts = container_use.mounts_seen(view, user) if now.running else ()
    seen = devices.seen(view, user) if now.running else {}
    idle = unused_for(view, user) if now.running else None
    stopped = idle_stop.stopped(user)
    systems, work, looked = systems_of(view, user), last(user), time.time()
    reserved, own = overview(view, looked), forwards_of(user)
    lines = [
        f"Your container on {view.server}: {'running' if now.running else 'stopped'}",
        *(_running(now, most, limits, cpus) if now.running else []),
        f"  disk     {disk_in_words(disk, limits)}",
        *map(_mount, mounts),
        *(f"  device   {name}{f': NOT THERE. {why}' if why else ''}" for name, why in seen.items()),
        f"  address  {resident.address} (inside this server)",
        *([] if work is None else [f"  files    {_in_words(work)}"]),
        *_kept(systems),
        *([f"  kept     when nobody uses it, too: {resident.keep}"] if resident.keep else []),
        *([] if stopped is None or now.running else [idle_stop.in_words(stopped)]),
        *([words.how_to_log_in(view, user, resident)] if now.running else []),
        *line(own),
        *words.announced(view),
        *reserved.lines(user, [card.uuid for card in nodes.cards()]),
        *waiting.untold(user, looked),
        *([] if idle is None else [words.last_used(view, user, idle)]),
        *([] if now.running else [f"Start it:  ssh {view.server}-manage"]),
    ]
    more = {
        "since": now.since,
        "keep": resident.keep or None,
        "stopped_unused_at": None if stopped is None or now.running else stopped.at,
        **idle_facts(idle),
        **words.announced_facts(view),
        "reservations": reserved.facts(),
        "memory_bytes": now.memory,
        "tasks": now.tasks,
        "previous_since": systems.since,
        "last_work": None if work is None else asdict(work),
        "memory_limit_bytes": most,
        "tasks_limit": limits.tasks,
        "cpus_limit": limits.cpus,
        "cpu_set": cpus or None,
        "disk_bytes": disk.used,
        "disk_bytes_at_least": disk.at_least,
        "disk_limit_bytes": limits.disk,
        "disk_limit_enforced": disk.held,
        "mounts": [
            {**asdict(each.mount), "there": each.there, "why_not": each.why_not} for each in mounts
        ],
        "devices": [{"name": n, "there": not why, "why_not": why} for n, why in seen.items()],
    }
    about = facts(view, user, own, running=now.running)
    return messages.Answer("\n".join(lines), {**about, **more})


def _running(now: Power, most: int | None, limits: Limits, cpus: str) -> list[str]:
    """What a container that runs uses, and of how much."""
    where = f" (programs see the server's CPUs {cpus})" if cpus else ""
    tasks = "-" if now.tasks is None else str(now.tasks)
    return [
        *([f"  since    {now.since}"] if now.since else []),
        f"  memory   {in_words.size(now.memory)}{_of(in_words.size(most), most)}",
        f"  tasks    {tasks}{_of(str(limits.tasks), limits.tasks)}",
        *([] if limits.cpus is None else [f"  cpus     up to {limits.cpus} at a time{where}"]),
    ]


def _kept(systems: Systems) -> list[str]:
    if systems.since is None:
        return []
    since = in_words.moment(systems.since)
    return [
        f"  before   a previous system is kept since {since}: `recover --undo`, `recover --forget`"
    ]


def _in_words(work: Undertaking) -> str:
    if work.ended is None:
        return f"{work.what}: under way since {in_words.moment(work.begun)}"
    if work.failed:
        return f"{work.what}: not done ({in_words.moment(work.ended)}): {work.failed}"
    return f"{work.what}: done ({in_words.moment(work.ended)})"


def _of(words: str, limit: int | None) -> str:
    return "" if limit is None else f" of {words}"


def disk_in_words(disk: DiskUse, limits: Limits) -> str:
    """What of the disk is used, and of how much. Pure."""
    if disk.held:
        return f"{in_words.size(disk.used)}{_of(in_words.size(limits.disk), limits.disk)}"
    least = "at least " if disk.at_least else ""
    if disk.at_least and not disk.used:
        return "not known: the server's disk is too slow to count it now"
    asked = "" if limits.disk is None else f" (please stay below {in_words.size(limits.disk)})"
    return f"{least}{in_words.size(disk.used)}{asked}"


def _mount(seen: MountSeen) -> str:
    what = {
        "own": "your own folder",
        "read-only": "read-only",
        "shared": "shared by everybody",
        "home": "the home that you have had on this server",
    }
    words = what[seen.mount.access] if seen.there else f"NOT THERE. {seen.why_not}"
    return f"  mount    {seen.mount.target}: {words}"
