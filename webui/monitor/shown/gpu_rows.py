"""The GPUs of one server, as its card shows them. Pure."""

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
"""Of one GPU, so many are named."""
MOST_BOOKED = 7
"""Reservations of one GPU: a GPU has so many instances at most."""


@dataclass(frozen=True)
class Holder:
    """Somebody who holds a GPU."""

    person: NamedPerson
    memory: str
    """How much of its memory; empty if the driver doesn't say."""


@dataclass(frozen=True)
class Booked:
    """That somebody has reserved a GPU now, or an instance of it."""

    person: NamedPerson
    part: str
    """The instance (MIG); empty: the whole GPU."""
    ends: float
    until: str
    unused_since: float | None
    intruders: tuple[NamedPerson, ...]
    """Who holds it all the same."""


@dataclass(frozen=True)
class GpuRow:
    """One GPU."""

    index: int
    uuid: str
    free: bool
    used: Bar | None
    """Utilisation; None: not known."""
    memory: Bar
    temperature: str
    power: str
    holders: tuple[Holder, ...]
    more_holders: int
    """Who isn't named."""
    parts: tuple[tuple[str, Bar], ...]
    """Of a GPU that is shared out (MIG): name and memory of each instance."""
    booked: tuple[Booked, ...] = ()
    """For whom it is reserved now."""


@dataclass(frozen=True)
class GpuGroup:
    """GPUs of one server that are the same."""

    name: str
    full_name: str
    each: str
    """Memory of each, and the power that it may take."""
    rows: tuple[GpuRow, ...]


def groups(load: ServerLoad, people: People) -> tuple[GpuGroup, ...]:
    """Neighbours that are the same, together."""
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
    """The reservations of the moment, by the GPU."""
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
    """A GPU's name without what all of them have in it."""
    for word in ("NVIDIA ", "GeForce ", "Tesla "):
        name = name.removeprefix(word)
    return name or "GPU"


def held(load: ServerLoad, user: str) -> tuple[GpuLoad, ...]:
    """The GPUs that `user` holds."""
    return tuple(gpu for gpu in load.gpus if any(each.user == user for each in gpu.users))


def gpu_memory(load: ServerLoad, user: str) -> str:
    """How much GPU memory `user` holds; empty: none."""
    mine = [each.memory for gpu in load.gpus for each in gpu.users if each.user == user]
    if not mine:
        return ""
    known = [memory for memory in mine if memory is not None]
    return size(sum(known)) if known else "not known"
