"""Finds containers that run though nobody uses them. `reconciler.load.idle_stop` stops them.

`reconciler.load.last_use` looks about every ten minutes. This module adds up for how long nobody
used what. Time is counted by a clock that nobody sets (CLOCK_BOOTTIME, clock_gettime(2)), so a
wrong clock makes no container idle. Time without looks doesn't count. A start by a person is a use;
a reboot is not, nor a start by the server after one. Standard library only: `start` reads this.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from reconciler.host import places
from reconciler.host.boot import boot_clock, boot_id
from state import records
from state.plain import Seconds
from state.view import View

if TYPE_CHECKING:
    from state.wire.server_load import IdleContainer

BUSY = 0.05
"""CPUs in use from which on a container is busy: 30 s of CPU time in ten minutes. An unused Debian
took no measurable CPU time, its timers 0.2 s each; fetching the lists of packages takes seconds."""
MEASURED = 300.0
"""The least time over which CPU use is measured, in seconds: a moment's work is not a use."""
LONGEST_GAP = 3600.0
"""How much of the time between two looks counts as idle at most, in seconds."""
DAY = 86400.0
N = TypeVar("N", float, float | None)
INVOCATIONS = Path("/run/systemd/units")


@dataclass(frozen=True)
class Activity:
    """What one look sees of a container that runs."""

    start: str
    """Identifies this start of the container: the invocation id of its unit in systemd."""
    gpu: bool | None
    """Whether a program of the user's is on a GPU; None if the driver doesn't say."""
    login: bool
    """Whether somebody is logged in."""
    cpu: float
    """Seconds of CPU time that the container has used."""
    sessions: int = 0
    """A number that changes whenever somebody logs in or out, however briefly."""
    connected: bool | None = False
    """Whether somebody is connected through a mapped port; None: not known."""
    came_back: int | None = None
    """The value of `sessions` right after the server itself started it; None: a person did."""


@dataclass(frozen=True)
class Unused:
    """For how many seconds nobody used the GPUs, logins, CPUs and connections of a container."""

    start: str
    gpu: Seconds = 0.0
    login: Seconds = 0.0
    cpu: Seconds = 0.0
    measured: Seconds = 0.0
    """When `cpu_time` was read, by the boot's clock."""
    cpu_time: Seconds = 0.0
    sessions: int = 0
    connection: Seconds | None = None
    """None: as long as the others; to an older version, a connection was not a use."""
    episode: str = ""
    """Identifies the present time without use: each use begins another one."""
    told: tuple[Seconds, ...] = ()
    """The values of `seconds` when mails that it will be stopped had been accepted."""

    @property
    def seconds(self) -> float:
        """For how many seconds nobody used the container at all."""
        known = min(self.gpu, self.login, self.cpu)
        return known if self.connection is None else min(known, self.connection)


@dataclass(frozen=True)
class IdleRecord:
    """Every container that ran at the last look, or is to come back."""

    boot: str = ""
    """Identifies the boot of the server (random(4), boot_id)."""
    looked: Seconds = 0.0
    """When the look was, in seconds since the boot."""
    containers: Mapping[str, Unused] = field(default_factory=dict)


def judge(
    before: IdleRecord,
    boot: str,
    now: float,
    sights: Mapping[str, Activity],
    waiting: Collection[str] = (),
) -> IdleRecord:
    """The record after a look. Pure.

    `waiting`: users whose containers ran before a boot, and will come back.
    """
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
        passed = 0.0  # the container was down meanwhile
    if before is None or before.start != sight.start:
        # a start is a use
        return Unused(
            sight.start,
            measured=now,
            cpu_time=sight.cpu,
            sessions=sight.sessions,
            connection=0.0,
        )
    login = sight.login or sight.sessions != before.sessions
    after = replace(
        before,
        gpu=_longer(before.gpu, sight.gpu, passed),
        login=_longer(before.login, login, passed),
        connection=_longer(_connection(before, sight), sight.connected, passed),
        sessions=sight.sessions,
    )
    if now - before.measured < MEASURED:
        return replace(after, cpu=before.cpu + passed)
    busy = sight.cpu - before.cpu_time > BUSY * (now - before.measured)
    return replace(after, cpu=_longer(before.cpu, busy, passed), measured=now, cpu_time=sight.cpu)


def _connection(before: Unused, sight: Activity) -> float | None:
    """For how long nobody was connected; unknown connections stop the count here."""
    unknown = before.connection is None and sight.connected is None
    return before.seconds if unknown else before.connection


def _longer(before: N, used: bool | None, passed: float) -> N | float:
    """The time without use after `passed` more seconds, which count only if the use is known."""
    if used is None or (before is None and not used):
        return before
    return 0.0 if used or before is None else before + passed


def still_unused(unused: Unused, sight: Activity, now: float) -> bool:
    """Whether the activity now shows no use since the look; `now`: seconds since the boot. Pure."""
    same = sight.start == unused.start and sight.sessions == unused.sessions
    passed = max(now - unused.measured, MEASURED)
    busy = sight.cpu - unused.cpu_time > BUSY * passed
    return same and sight.gpu is False and sight.connected is False and not (sight.login or busy)


def unused_for(view: View, user: str) -> float | None:
    """For how many seconds nobody used the container, if it counts as idle; else None."""
    if view.idle_days is None:
        return None
    return _beyond(view.idle_days, read_record()).get(user)


def idle_containers(view: View, now: float) -> tuple[IdleContainer, ...]:
    """The idle containers, the longest idle first; `now`: seconds since the epoch."""
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
    """The users whose containers are idle for at least so many days, with the seconds."""
    if record.boot != boot_id():
        return {}
    passed = min(max(0.0, boot_clock() - record.looked), LONGEST_GAP)
    return {
        user: unused.seconds + passed
        for user, unused in record.containers.items()
        if unused.seconds + passed >= days * DAY and unused.start == present_start(user)
    }


def present_start(user: str) -> str:
    """Identifies the present start of the user's container; empty if it doesn't run."""
    link = INVOCATIONS / f"invocation:{places.container_unit(user)}"
    try:
        return str(link.readlink())
    except OSError:
        return ""


def note_came_back(user: str, sessions: int) -> None:
    """Note that the server itself started the user's container, so that this is not a use."""
    places.CAME_BACK.mkdir(mode=0o755, parents=True, exist_ok=True)
    records.write(places.CAME_BACK / user, _CameBack(present_start(user), sessions))


class _CameBack(NamedTuple):
    start: str
    sessions: int


def came_back(user: str, start: str) -> int | None:
    """The value of `sessions` right after the server made this start; None: a person did."""
    noted = records.read_if_possible(places.CAME_BACK / user, _CameBack)
    return noted.sessions if noted is not None and start and noted.start == start else None


def read_record() -> IdleRecord:
    """The record of the last look; an empty one if it can't be read."""
    return records.read_if_possible(places.IDLENESS, IdleRecord) or IdleRecord()


def write_record(record: IdleRecord) -> None:
    """Keep the record for `start`, `status`, the page and the next look."""
    records.write(places.IDLENESS, record)
