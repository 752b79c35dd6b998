"""Which containers run though nobody uses them. What is done for it: `reconciler.load.idle_stop`.

`reconciler.load.last_use` looks every ten minutes or so; here, what it sees adds up to how long
nobody used what. Time is counted by a clock that nobody sets (CLOCK_BOOTTIME, clock_gettime(2)),
so that a wrong clock makes nobody idle. What nobody looked at doesn't count either. A count begins
anew with a start, unless the container came back by itself: neither is that a use, nor a reboot.
Standard library only: `start` reads this.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reconciler.host import places
from state.files import read_text, write_file
from state.view import View

if TYPE_CHECKING:
    from state.wire.server_load import IdleContainer

BUSY = 0.05
"""CPUs: 30 s of CPU time in ten minutes. A Debian that nobody uses took none that could be
measured, its timers 0.2 s each; fetching the lists of packages takes seconds."""
MEASURED = 300.0
"""Seconds over which CPU time is measured at least: a moment's work is no use."""
LONGEST_GAP = 3600.0
"""Seconds between two looks that count as idle at most."""
DAY = 86400.0
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
INVOCATIONS = Path("/run/systemd/units")


@dataclass(frozen=True)
class Activity:
    """What one look sees of a container that runs."""

    start: str
    """Which start of the container this is: systemd's invocation of its unit."""
    gpu: bool | None
    """Whether a program of the user's is on a GPU; None if the driver doesn't say."""
    login: bool
    """Whether somebody is logged in."""
    cpu: float
    """Seconds of CPU time that the container has used."""
    sessions: int = 0
    """Another number whenever somebody logged in or out, however briefly."""
    connected: bool | None = False
    """Whether somebody is connected through a mapped port; None: not known."""
    came_back: int | None = None
    """The value of `sessions` right after the server started it; None: a person started it."""


@dataclass(frozen=True)
class Unused:
    """For how many seconds nobody used what of a container."""

    start: str
    gpu: float = 0.0
    login: float = 0.0
    cpu: float = 0.0
    measured: float = 0.0
    """When `cpu_time` was read, by the boot's clock."""
    cpu_time: float = 0.0
    sessions: int = 0
    connection: float = 0.0
    episode: str = ""
    """Another one since each use."""
    told: tuple[float, ...] = ()
    """The `seconds` at which it was seen that its user was told that it will be stopped."""

    @property
    def seconds(self) -> float:
        """How long nobody used any of it."""
        return min(self.gpu, self.login, self.cpu, self.connection)


@dataclass(frozen=True)
class IdleRecord:
    """Every container that ran at the last look, or is to come back."""

    boot: str = ""
    """Which boot of the server (random(4), boot_id)."""
    looked: float = 0.0
    """When, in seconds since the boot."""
    containers: Mapping[str, Unused] = field(default_factory=dict)


def judge(
    before: IdleRecord,
    boot: str,
    now: float,
    sights: Mapping[str, Activity],
    waiting: Collection[str] = (),
) -> IdleRecord:
    """What is known after a look; those that are `waiting` ran, and will come back. Pure."""
    known = before
    if before.boot != boot:
        others = {u: replace(each, start="") for u, each in before.containers.items()}
        known = IdleRecord(boot, now, others)
    elif before.looked > now:
        known = IdleRecord()
    passed = min(now - known.looked, LONGEST_GAP)
    found = {user: known.containers[user] for user in waiting if user in known.containers}
    for user, sight in sights.items():
        old = known.containers.get(user)
        new = _judged(old, sight, now, passed)
        if old is None or new.seconds < old.seconds or not new.episode:
            new = replace(new, episode=f"{boot[:8]}-{now:.0f}", told=())
        found[user] = new
    return IdleRecord(boot, now, found)


def _judged(before: Unused | None, sight: Activity, now: float, passed: float) -> Unused:
    if before is not None and before.start != sight.start and sight.came_back is not None:
        before = replace(
            before,
            start=sight.start,
            sessions=sight.came_back,
            measured=now,
            cpu_time=sight.cpu,
        )
        passed = 0.0  # it was down
    if before is None or before.start != sight.start:
        # a start is a use
        return Unused(sight.start, measured=now, cpu_time=sight.cpu, sessions=sight.sessions)
    login = sight.login or sight.sessions != before.sessions
    after = replace(
        before,
        gpu=_longer(before.gpu, sight.gpu, passed),
        login=_longer(before.login, login, passed),
        connection=_longer(before.connection, sight.connected, passed),
        sessions=sight.sessions,
    )
    if now - before.measured < MEASURED:
        return replace(after, cpu=before.cpu + passed)
    busy = sight.cpu - before.cpu_time > BUSY * (now - before.measured)
    return replace(after, cpu=_longer(before.cpu, busy, passed), measured=now, cpu_time=sight.cpu)


def _longer(before: float, used: bool | None, passed: float) -> float:
    """For how long something is unused after `passed` more; what isn't known doesn't count."""
    if used is None:
        return before
    return 0.0 if used else before + passed


def still_unused(unused: Unused, sight: Activity, now: float) -> bool:
    """Whether a sight at this moment, by the boot's clock, shows no use since the look. Pure."""
    same = sight.start == unused.start and sight.sessions == unused.sessions
    passed = max(now - unused.measured, MEASURED)
    busy = sight.cpu - unused.cpu_time > BUSY * passed
    return same and sight.gpu is False and sight.connected is False and not (sight.login or busy)


def unused_for(view: View, user: str) -> float | None:
    """For how many seconds nobody used the container, where that is worth a word; else None."""
    if view.idle_days is None:
        return None
    return _beyond(view.idle_days, read_record()).get(user)


def idle_containers(view: View, now: float) -> tuple[IdleContainer, ...]:
    """The containers to be named, the longest idle first; `now` is in seconds since the epoch."""
    from state.wire.server_load import (
        IdleContainer,  # third-party packages: not on the way of `start`
    )

    if view.idle_days is None:
        return ()
    found = _beyond(view.idle_days, read_record())
    named = (IdleContainer(user, now - seconds) for user, seconds in found.items()
             if user in view.residents)  # fmt: skip
    return tuple(sorted(named, key=lambda idle: (idle.since, idle.user)))


def _beyond(days: int, record: IdleRecord) -> dict[str, float]:
    """Who is idle for so many days, and for how many seconds."""
    if record.boot != boot_id():
        return {}
    passed = min(max(0.0, boot_clock() - record.looked), LONGEST_GAP)
    return {
        user: unused.seconds + passed
        for user, unused in record.containers.items()
        if unused.seconds + passed >= days * DAY and unused.start == present_start(user)
    }


def present_start(user: str) -> str:
    """Which start of the user's container is the present one; empty if it doesn't run."""
    link = INVOCATIONS / f"invocation:{places.container_unit(user)}"
    try:
        return str(link.readlink())
    except OSError:
        return ""


def note_came_back(user: str, sessions: int) -> None:
    """The present start of the user's container is nobody's use."""
    places.CAME_BACK.mkdir(mode=0o755, parents=True, exist_ok=True)
    noted = {"start": present_start(user), "sessions": sessions}
    write_file(places.CAME_BACK / user, json.dumps(noted) + "\n")


def came_back(user: str, start: str) -> int | None:
    """The value of `sessions` right after the server made this start; None: a person made it."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        noted = json.loads(read_text(places.CAME_BACK / user) or "{}")
        return int(noted["sessions"]) if start and noted["start"] == start else None
    return None


def boot_id() -> str:
    """Which boot of the server this is."""
    return BOOT_ID.read_text().strip()


def boot_clock() -> float:
    """Seconds since the boot, those of a suspended machine included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def read_record() -> IdleRecord:
    """What the last look left; nothing, if it can't be read or is no such record."""
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return _record(json.loads(read_text(places.IDLENESS) or "{}"))
    return IdleRecord()


def write_record(record: IdleRecord) -> None:
    """Keep it for `start`, `status`, the page and the next look."""
    write_file(places.IDLENESS, json.dumps(asdict(record), separators=(",", ":")) + "\n")


def _record(fields: Mapping[str, Any]) -> IdleRecord:
    found = {user: _unused(values) for user, values in fields["containers"].items()}
    return IdleRecord(str(fields["boot"]), _seconds(fields["looked"]), found)


def _unused(fields: Mapping[str, Any]) -> Unused:
    lengths = ("gpu", "login", "cpu", "measured", "cpu_time", "connection")
    if "connection" not in fields:  # an older version's, to which one was no use
        shortest = min(_seconds(fields[name]) for name in ("gpu", "login", "cpu"))
        fields = {"connection": shortest, "episode": "", "told": (), **fields}
    return Unused(
        start=str(fields["start"]),
        sessions=int(fields["sessions"]),
        episode=str(fields["episode"]),
        told=tuple(map(_seconds, fields["told"])),
        **{name: _seconds(fields[name]) for name in lengths},
    )


def _seconds(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError("not a number")
    if not math.isfinite(value) or value < 0:
        raise ValueError("not a length of time")
    return float(value)
