"""The GPUs on a server's card. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby

from state.sizes import size
from state.wire.reserved import current, uuids
from state.wire.server_load import GpuLoad, ReservedGpus, ServerLoad
from webui.monitor.shown.amounts import Bar, memory_bar, share_of
from webui.monitor.shown.people import NamedPerson, People
from webui.words import clock

MOST_HOLDERS = 20
"""Holders of one GPU who are named, at most."""
MOST_BOOKED = 7
"""Present reservations of one GPU that are shown: a GPU has at most seven MIG instances."""


@dataclass(frozen=True)
class Holder:
    """A user who holds a GPU."""

    person: NamedPerson
    memory: str
    """Their memory on it; empty if the driver doesn't say."""


@dataclass(frozen=True)
class Booked:
    """The present reservation of a GPU, or of a MIG instance of it."""

    person: NamedPerson
    part: str
    """The name of the MIG instance; empty for the whole GPU."""
    ends: float
    until: str
    unused_since: float | None
    intruders: tuple[NamedPerson, ...]
    """Other users who hold it."""


@dataclass(frozen=True)
class GpuRow:
    """One GPU."""

    index: int
    uuid: str
    free: bool
    used: Bar | None
    """The utilisation; None: not known."""
    memory: Bar
    temperature: str
    power: str
    holders: tuple[Holder, ...]
    more_holders: int
    """The number of holders who aren't named."""
    parts: tuple[tuple[str, Bar], ...]
    """Name and memory of each MIG instance, if there are any."""
    booked: tuple[Booked, ...] = ()
    """Its present reservations."""


@dataclass(frozen=True)
class GpuGroup:
    """Neighbouring GPUs of one model."""

    name: str
    full_name: str
    each: str
    """Memory and power limit of each."""
    rows: tuple[GpuRow, ...]


def groups(load: ServerLoad, people: People) -> tuple[GpuGroup, ...]:
    """The GPUs in `load`, neighbours of one model together."""
    booked = _booked(load, people)

    def alike(gpu: GpuLoad) -> tuple[str, int, float | None]:
        return gpu.name, gpu.memory_total, gpu.power_limit

    return tuple(
        GpuGroup(
            name=short_name(name),
            full_name=name,
            each=size(memory) + ("" if power is None else f", {power:.0f} W"),
            rows=tuple(_gpu(gpu, people, booked.get(gpu.uuid, ())) for gpu in same),
        )
        for (name, memory, power), same in groupby(load.gpus, key=alike)
    )


def _booked(load: ServerLoad, people: People) -> Mapping[str, tuple[Booked, ...]]:
    """The present reservations by the GPU's UUID."""
    now = current(load, load.at)
    places = {uuid: gpu for gpu in load.gpus for uuid in uuids(gpu)} if now else {}
    found: dict[str, tuple[Booked, ...]] = {}
    for each in now:
        for uuid in each.gpus:
            gpu = places.get(uuid)
            if gpu is not None and len(found.get(gpu.uuid, ())) < MOST_BOOKED:
                row = _reserved(each, gpu, uuid, people, load.at)
                found[gpu.uuid] = (*found.get(gpu.uuid, ()), row)
    return found


def _reserved(each: ReservedGpus, gpu: GpuLoad, uuid: str, people: People, now: float) -> Booked:
    intruders = gpu.holders.intersection(each.intruders)
    return Booked(
        person=people.named(each.user),
        part=next((part.name for part in gpu.mig if part.uuid == uuid), ""),
        ends=each.ends,
        until=clock(each.ends, now),
        unused_since=each.unused_since,
        intruders=tuple(people.named(user) for user in sorted(intruders)[:MOST_HOLDERS]),
    )


def _gpu(gpu: GpuLoad, people: People, booked: tuple[Booked, ...]) -> GpuRow:
    used = gpu.utilisation
    share = share_of(gpu.memory_used, gpu.memory_total)
    return GpuRow(
        index=gpu.index,
        uuid=gpu.uuid,
        free=gpu.free,
        used=None if used is None else Bar(used, f"{used:.0f} %"),
        memory=Bar(share, f"{gpu.memory_used / 2**30:.1f} GiB"),
        temperature="" if gpu.temperature is None else f"{gpu.temperature:.0f} °C",
        power="" if gpu.power is None else f"{gpu.power:.0f} W",
        holders=tuple(
            Holder(people.named(each.user), "" if each.memory is None else size(each.memory))
            for each in gpu.users[:MOST_HOLDERS]
        ),
        more_holders=max(0, len(gpu.users) - MOST_HOLDERS),
        parts=tuple(
            (each.name, memory_bar(each.memory_used, each.memory_total)) for each in gpu.mig
        ),
        booked=booked,
    )


def short_name(name: str) -> str:
    """A GPU's name without its common first words."""
    for word in ("NVIDIA ", "GeForce ", "Tesla "):
        name = name.removeprefix(word)
    return name or "GPU"


def held(load: ServerLoad, user: str) -> tuple[GpuLoad, ...]:
    """The GPUs that `user` holds."""
    return tuple(gpu for gpu in load.gpus if any(each.user == user for each in gpu.users))


def gpu_memory(load: ServerLoad, user: str) -> str:
    """The GPU memory of `user` in words; empty if there is none."""
    mine = [each.memory for gpu in load.gpus for each in gpu.users if each.user == user]
    if not mine:
        return ""
    known = [memory for memory in mine if memory is not None]
    return size(sum(known)) if known else "not known"
