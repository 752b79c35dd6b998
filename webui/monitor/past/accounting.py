"""What a server's users used between two loads, by our clock. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from operator import add

from state.wire.server_load import SYSTEM, GpuLoad, ServerLoad

SHORTEST_PATIENCE = 15.0
LONGEST_PATIENCE = 180.0
"""Seconds. They limit `patience`, whatever interval a server claims."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What one user or group used."""

    gpu: float = 0.0
    """Seconds x GPUs held. If k users hold a GPU, each holds 1/k of it."""
    gpu_busy: float = 0.0
    """Seconds x GPUs held x utilisation. A GPU that doesn't tell its utilisation counts 0."""
    gpu_memory: float = 0.0
    """Byte-seconds."""
    memory: float = 0.0
    """Byte-seconds."""
    cpu: float = 0.0
    """Seconds x busy CPUs."""
    reserved: float = 0.0
    """Seconds x GPUs reserved."""
    unused: float = 0.0
    """Seconds x GPUs that the user had reserved and didn't hold."""

    def __add__(self, other: Usage) -> Usage:
        return Usage(*map(add, self.values(), other.values()))

    def values(self) -> tuple[float, ...]:
        """The fields in order. (`dataclasses.astuple` takes ten times as long.)"""
        used = (self.gpu, self.gpu_busy, self.gpu_memory, self.memory, self.cpu)
        return *used, self.reserved, self.unused


@dataclass(frozen=True, slots=True)
class Levels:
    """How busy a server was over some time: sums of percent x seconds, and the seconds.

    GPUs have their own seconds: a server may have none, or may not know their utilisation.
    """

    seconds: float = 0.0
    cpu: float = 0.0
    memory: float = 0.0
    gpu_seconds: float = 0.0
    """Seconds in which the GPUs' utilisation was known."""
    gpu: float = 0.0
    held_seconds: float = 0.0
    """Seconds in which there were GPUs."""
    held: float = 0.0

    def __add__(self, other: Levels) -> Levels:
        return Levels(*map(add, self.values(), other.values()))

    def values(self) -> tuple[float, ...]:
        """The fields in order."""
        gpus = (self.gpu_seconds, self.gpu, self.held_seconds, self.held)
        return self.seconds, self.cpu, self.memory, *gpus


@dataclass(frozen=True)
class LoadStep:
    """What happened from one load of a server to the next."""

    levels: Levels
    gpus: float
    """Seconds x GPUs of the server."""
    users: Mapping[str, Usage]


def patience(load: ServerLoad) -> float:
    """Seconds within which the next load has to come; otherwise there is a gap."""
    return min(max(3 * load.interval, SHORTEST_PATIENCE), LONGEST_PATIENCE)


def step(before: float, at: float, load: ServerLoad) -> LoadStep | None:
    """What happened from `before`, when the previous load came, to `at`, when `load` came.

    Both are in seconds by our clock. None if they are so far apart that there is a gap.
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
    """For each GPU that is reserved now: its user, and whether they hold it.

    "Now" is by the server's clock, as its reservations are. A GPU counts once, and only if it is
    among the load's GPUs, so that nobody has more reserved hours than there were.
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
