"""What a server's users used between two loads. Pure; time is ours, never the server's."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from operator import add

from state.wire.server_load import SYSTEM, GpuLoad, ServerLoad

SHORTEST_PATIENCE = 15.0
LONGEST_PATIENCE = 180.0
"""Seconds; whatever interval a server claims."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What one user used, or what was used in all."""

    gpu: float = 0.0
    """Seconds x GPUs held; of a GPU that k users hold, each holds 1/k."""
    gpu_busy: float = 0.0
    """The same, times utilisation; of a GPU that doesn't tell it, nothing."""
    gpu_memory: float = 0.0
    """Byte-seconds."""
    memory: float = 0.0
    """Byte-seconds."""
    cpu: float = 0.0
    """Seconds x CPUs that were busy."""
    reserved: float = 0.0
    """Seconds x GPUs reserved."""
    unused: float = 0.0
    """Of these, those that the user did not hold."""

    def __add__(self, other: Usage) -> Usage:
        return Usage(*map(add, self.values(), other.values()))

    def values(self) -> tuple[float, ...]:
        """In the order of the fields; `dataclasses.astuple` takes ten times as long."""
        used = (self.gpu, self.gpu_busy, self.gpu_memory, self.memory, self.cpu)
        return *used, self.reserved, self.unused


@dataclass(frozen=True, slots=True)
class Levels:
    """How loaded a server was over some time: percent x seconds, and the seconds of which.

    GPUs have seconds of their own: a server may have none, or not be able to tell.
    """

    seconds: float = 0.0
    cpu: float = 0.0
    memory: float = 0.0
    gpu_seconds: float = 0.0
    """Seconds in which utilisation was told."""
    gpu: float = 0.0
    held_seconds: float = 0.0
    """Seconds in which there were GPUs."""
    held: float = 0.0

    def __add__(self, other: Levels) -> Levels:
        return Levels(*map(add, self.values(), other.values()))

    def values(self) -> tuple[float, ...]:
        """In the order of the fields."""
        gpus = (self.gpu_seconds, self.gpu, self.held_seconds, self.held)
        return self.seconds, self.cpu, self.memory, *gpus


@dataclass(frozen=True)
class LoadStep:
    """The time from one load of a server to its next one."""

    levels: Levels
    gpus: float
    """Seconds x GPUs that there were."""
    users: Mapping[str, Usage]


def patience(load: ServerLoad) -> float:
    """Seconds after `load` in which the next one has to come; later, there is a gap."""
    return min(max(3 * load.interval, SHORTEST_PATIENCE), LONGEST_PATIENCE)


def step(before: float, at: float, load: ServerLoad) -> LoadStep | None:
    """What happened from `before`, when the previous load came, to `at`, when `load` came.

    Both in seconds by our clock. None if so much lies between that it is a gap.
    """
    seconds = at - before
    if not 0 < seconds <= patience(load):
        return None
    users: defaultdict[str, Usage] = defaultdict(Usage)
    for gpu in load.gpus:
        for user, usage in _held(gpu, seconds):
            users[user] += usage
    for each in load.users:
        if each.user != SYSTEM:
            usage = Usage(memory=each.memory * seconds, cpu=each.cpus * seconds)
            users[each.user] += usage
    for user, holds in _reserved(load):
        users[user] += Usage(reserved=seconds, unused=0.0 if holds else seconds)
    return LoadStep(_levels(load, seconds), seconds * len(load.gpus), dict(users))


def _held(gpu: GpuLoad, seconds: float) -> list[tuple[str, Usage]]:
    who = gpu.holders
    busy = (gpu.utilisation or 0.0) / 100
    share = seconds / len(who) if who else 0.0
    found = [(user, Usage(gpu=share, gpu_busy=share * busy)) for user in sorted(who)]
    for each in gpu.users:
        if each.user in who:
            found.append((each.user, Usage(gpu_memory=(each.memory or 0) * seconds)))
    return found


def _reserved(load: ServerLoad) -> list[tuple[str, bool]]:
    """Of each GPU that is reserved now: for whom, and whether they hold it.

    By the server's clock, as it keeps its book by that. A GPU counts once, and only while its use
    is known, so that nobody has more hours reserved than there were.
    """
    now = [each for each in load.reservations if each.begins <= load.at < each.ends]
    whose = {gpu: each.user for each in now if each.user not in ("", SYSTEM) for gpu in each.gpus}
    return [
        (whose[gpu.uuid], whose[gpu.uuid] in gpu.holders) for gpu in load.gpus if gpu.uuid in whose
    ]


def _levels(load: ServerLoad, seconds: float) -> Levels:
    memory, gpu = load.memory, load.gpu_utilisation
    used = memory.used / memory.total if memory.total else 0.0
    held = sum(1 for gpu in load.gpus if gpu.holders)
    return Levels(
        seconds=seconds,
        cpu=load.cpu.percent * seconds,
        memory=100 * used * seconds,
        gpu_seconds=0.0 if gpu is None else seconds,
        gpu=(gpu or 0.0) * seconds,
        held_seconds=seconds if load.gpus else 0.0,
        held=100 * held / len(load.gpus) * seconds if load.gpus else 0.0,
    )
