"""What a load says of reservations, at one moment. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from state.wire.server_load import GpuLoad, ReservedGpus, ServerLoad


def current(load: ServerLoad, now: float) -> tuple[ReservedGpus, ...]:
    """The reservations that hold at `now`."""
    return tuple(each for each in load.reservations if each.begins <= now < each.ends)


def uuids(gpu: GpuLoad) -> frozenset[str]:
    """Whatever of `gpu` can be reserved: the whole, or its instances (MIG)."""
    return frozenset({gpu.uuid, *(part.uuid for part in gpu.mig)})


def among(gpus: Iterable[GpuLoad], reservations: Iterable[ReservedGpus]) -> tuple[GpuLoad, ...]:
    """Those of `gpus` of which something is reserved."""
    taken = {uuid for each in reservations for uuid in each.gpus}
    return tuple(gpu for gpu in gpus if not taken.isdisjoint(uuids(gpu))) if taken else ()


def reserved_gpus(load: ServerLoad, now: float | None = None) -> tuple[GpuLoad, ...]:
    """The GPUs of which somebody has reserved something.

    At `now`; None: at the moment of the load, by the server's clock.
    """
    return among(load.gpus, current(load, load.at if now is None else now))


def open_gpus(load: ServerLoad) -> tuple[GpuLoad, ...]:
    """The free GPUs that nobody has reserved: anybody may take them now."""
    reserved = {gpu.uuid for gpu in reserved_gpus(load)}
    return tuple(gpu for gpu in load.free_gpus if gpu.uuid not in reserved)
