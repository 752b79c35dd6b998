"""`status`: shows whether the container runs, what it uses of its limits, and what it sees."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import starmap

from reconciler.container.undertaking import Undertaking, last
from reconciler.cpus import machine
from reconciler.host import in_words
from reconciler.host.published import current_view, resident_of
from reconciler.kinds.containers.cpu_set import cpus_of
from reconciler.load import idle_stop
from reconciler.load.idle_stop import Stopped
from reconciler.load.idleness import unused_for
from reconciler.network.forwards import Forward
from reconciler.nvidia import nodes
from reconciler.plan import Tell
from reconciler.requests import container_use, devices
from reconciler.requests.container_use import DiskUse, MountSeen
from reconciler.requests.unit import Power, power_of
from reconciler.reservations import waiting
from reconciler.reservations.overview import ReservationsOverview, overview
from reconciler.systems.inventory import Systems, systems_of
from shells.verbs import VerbRequest, facts, forwards_of, idle_facts, words
from shells.verbs.ports import line
from state.view import Limits, Resident, View
from state.wire import messages


@dataclass(frozen=True)
class _Status:
    """What was read of a container, to be put into words and into facts."""

    view: View
    user: str
    now: Power
    limits: Limits
    memory_limit: int | None
    cpus: machine.Cpus
    """The CPUs that its programs see; empty: all."""
    disk: DiskUse
    mounts: Sequence[MountSeen]
    devices: Mapping[str, str]
    """Why a device isn't there, by its name; empty if it is."""
    idle: float | None
    """For how many seconds nobody used it, if it counts as idle."""
    stopped: Stopped | None
    """That it was stopped because nobody used it."""
    systems: Systems
    work: Undertaking | None
    looked: float
    reserved: ReservationsOverview
    ports: tuple[Forward, ...] | None
    """The user's forwards; None: not known."""

    @property
    def resident(self) -> Resident:
        """The user as a resident of this server."""
        return self.view.residents[self.user]


def answer(asked: VerbRequest, tell: Tell) -> messages.Answer:
    """Show it all; change nothing."""
    read = _read(current_view(), asked.user)
    more = {**facts(read.view, read.user, read.ports, running=read.now.running), **_facts(read)}
    return messages.Answer("\n".join(_lines(read)), more)


def _read(view: View, user: str) -> _Status:
    resident = resident_of(view, user)
    disk = container_use.disk_use(view, user, resident)  # takes longest, so it goes on meanwhile
    now, looked = power_of(user), time.time()
    stopped = idle_stop.stopped(user)
    return _Status(
        view=view,
        user=user,
        now=now,
        limits=view.limits_of(user),
        memory_limit=container_use.memory_limit(user),
        cpus=cpus_of(user),
        mounts=container_use.mounts_seen(view, user) if now.running else (),
        devices=devices.seen(view, user) if now.running else {},
        idle=unused_for(view, user) if now.running else None,
        stopped=None if now.running else stopped,
        systems=systems_of(view, user),
        work=last(user),
        looked=looked,
        reserved=overview(view, looked),
        ports=forwards_of(user),
        disk=disk(),
    )


def _lines(read: _Status) -> list[str]:
    view, user, now, keep = read.view, read.user, read.now, read.resident.keep
    return [
        f"Your container on {view.server}: {'running' if now.running else 'stopped'}",
        *(_running(now, read.memory_limit, read.limits, read.cpus) if now.running else []),
        f"  disk     {disk_in_words(read.disk, read.limits)}",
        *map(_mount, read.mounts),
        *starmap(_device, read.devices.items()),
        f"  address  {read.resident.address} (inside this server)",
        *([] if read.work is None else [f"  files    {_in_words(read.work)}"]),
        *_kept(read.systems),
        *([f"  kept     also when nobody uses it: {keep}"] if keep else []),
        *([] if read.stopped is None else [idle_stop.in_words(read.stopped)]),
        *([words.how_to_log_in(view, user, read.resident)] if now.running else []),
        *line(read.ports),
        *words.announced(view),
        *read.reserved.lines(user, [card.uuid for card in nodes.cards()]),
        *waiting.untold(user, read.looked),
        *([] if read.idle is None else [words.last_used(view, user, read.idle)]),
        *([] if now.running else [f"Start it:  ssh {view.server}-manage"]),
    ]


def _facts(read: _Status) -> dict[str, object]:
    return {
        "since": read.now.since,
        "keep": read.resident.keep or None,
        "stopped_unused_at": None if read.stopped is None else read.stopped.at,
        **idle_facts(read.idle),
        **words.announced_facts(read.view),
        "reservations": read.reserved.facts(),
        "memory_bytes": read.now.memory,
        "tasks": read.now.tasks,
        "previous_since": read.systems.since,
        "last_work": None if read.work is None else asdict(read.work),
        "memory_limit_bytes": read.memory_limit,
        "tasks_limit": read.limits.tasks,
        "cpus_limit": read.limits.cpus,
        "cpu_set": machine.in_words(read.cpus) or None,
        "disk_bytes": read.disk.used,
        "disk_bytes_at_least": read.disk.at_least,
        "disk_limit_bytes": read.limits.disk,
        "disk_limit_enforced": read.disk.held,
        "mounts": [
            {**asdict(each.mount), "there": each.there, "why_not": each.why_not}
            for each in read.mounts
        ],
        "devices": [
            {"name": name, "there": not why, "why_not": why} for name, why in read.devices.items()
        ],
    }


def _device(name: str, why_not: str) -> str:
    return f"  device   {name}{f': NOT THERE. {why_not}' if why_not else ''}"


def _running(now: Power, most: int | None, limits: Limits, cpus: machine.Cpus) -> list[str]:
    """Lines about what a running container uses, and its limits."""
    where = f" (programs see the server's {machine.named(cpus)})" if cpus else ""
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
    return [f"  before   a system is kept since {since}: `recover --undo`, `--forget`"]


def _in_words(work: Undertaking) -> str:
    if work.ended is None:
        return f"{work.what}: under way since {in_words.moment(work.begun)}"
    if work.failed:
        return f"{work.what}: not done ({in_words.moment(work.ended)}): {work.failed}"
    return f"{work.what}: done ({in_words.moment(work.ended)})"


def _of(words: str, limit: int | None) -> str:
    return "" if limit is None else f" of {words}"


def disk_in_words(disk: DiskUse, limits: Limits) -> str:
    """The use of the disk, and its limit, in words. Pure."""
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
