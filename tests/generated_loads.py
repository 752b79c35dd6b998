"""Loads of servers that don't exist, for pages and pictures: generated, from a number."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from state.wire.server_load import (
    CpuLoad,
    DiskRate,
    DriverVersions,
    FileSystem,
    GpuLoad,
    GpuUser,
    MemoryLoad,
    MigLoad,
    NetworkRate,
    ReservedGpus,
    ServerLoad,
    UserLoad,
)

GIB = 2**30
HOUR = 3600
KINDS = (
    ("NVIDIA H100 80GB HBM3", 80, 700),
    ("NVIDIA GeForce RTX 4090", 24, 450),
    ("NVIDIA A100-SXM4-40GB", 40, 400),
    ("NVIDIA GeForce RTX 2080 Ti", 11, 250),
)
USERS = ("lqchen", "ann", "bob", "chi", "dora", "emil", "fay", "gus", "hana", "ivo")


def load(
    server: str = "gpu17",
    at: float = 0.0,
    seed: int = 1,
    gpus: int = 8,
    busy: float = 0.7,
    there: int = 5,
    everybody: Sequence[str] = USERS,
) -> ServerLoad:
    """What `server` does at `at`: the same for the same numbers. `there` of `everybody` use it."""
    steady = random.Random(f"{server} {seed}")
    moving = random.Random(f"{server} {seed} {at}")
    kind = steady.choice(KINDS)
    users = steady.sample(everybody, there)
    cards = tuple(_gpu(server, index, kind, users, busy, steady, moving) for index in range(gpus))
    total = steady.choice((256, 512, 1024)) * GIB
    percent = round(steady.uniform(10, 85) + moving.uniform(-8, 8), 1)
    people = tuple(
        UserLoad(user, round(moving.uniform(0.1, 20), 1), moving.randrange(total // 20), 30)
        for user in users
    )
    system = UserLoad("system", 0.4, 3 * GIB, 240)
    return ServerLoad(
        server=server,
        at=at,
        interval=5.0,
        cpu=CpuLoad(percent, steady.choice((32, 64, 128)), float(moving.randrange(40, 80))),
        memory=MemoryLoad(total, moving.randrange(total // 3, total), 8 * GIB, GIB // 2),
        driver=DriverVersions("550.54.15", "550.54.15") if gpus else DriverVersions(),
        gpus=cards,
        file_systems=(
            FileSystem("/", 440 * GIB, steady.randrange(60, 300) * GIB),
            FileSystem("/data", 14_000 * GIB, steady.randrange(1800, 9000) * GIB),
        ),
        disks=(DiskRate("nvme0n1", moving.uniform(0, 2e9), moving.uniform(0, 5e8)),),
        network=(NetworkRate("enp1s0", moving.uniform(0, 1e8), moving.uniform(0, 1e8)),),
        users=(*sorted(people, key=lambda each: -each.cpus), system),
    )


def with_mig(given: ServerLoad) -> ServerLoad:
    """The same, its first GPU shared out in parts."""
    first = given.gpus[0]
    parts = tuple(
        MigLoad(f"MIG-{number}", name, 10 * GIB * share, GIB * number)
        for number, (name, share) in enumerate((("1g.10gb", 1), ("2g.20gb", 2), ("4g.40gb", 4)))
    )
    return replace(given, gpus=(replace(first, mig=parts), *given.gpus[1:]))


def with_reservations(
    given: ServerLoad, now: float, seed: int = 1, everybody: Sequence[str] = USERS, most: int = 40
) -> ServerLoad:
    """The same, its GPUs reserved for parts of the next fortnight, `most` times."""
    chance = random.Random(f"{given.server} {seed}")
    free_from = {gpu.uuid: now - HOUR * chance.randrange(30) for gpu in given.gpus}
    found = []
    for number in range(most):
        begins = min(free_from.values()) + HOUR * chance.choice((0, 0, 4, 14, 30))
        free = [uuid for uuid, since in free_from.items() if since <= begins]
        gpus = free[: chance.choice((1, 1, 2, 4))]
        ends = begins + HOUR * chance.choice((3, 8, 8, 24, 48, 72))
        user, unused_since = chance.choice(everybody), None
        if begins <= given.at < ends:  # whoever is on them has reserved them, mostly
            holders = {gpu.uuid: gpu.holders for gpu in given.gpus}
            user = min(holders[gpus[0]], default=user)
            gpus = [uuid for uuid in gpus if user in holders[uuid]] or gpus[:1]
            unused_since = None if holders[gpus[0]] else max(begins, given.at - 3 * HOUR)
        if ends > now and begins < now + 14 * 24 * HOUR:
            uuids = tuple(gpus)
            found.append(ReservedGpus(f"r{number}", user, uuids, begins, ends, unused_since))
        free_from |= dict.fromkeys(gpus, ends)
    return replace(given, reservations=tuple(sorted(found, key=lambda each: each.begins)))


def _gpu(
    server: str,
    index: int,
    kind: tuple[str, int, int],
    users: list[str],
    busy: float,
    steady: random.Random,
    moving: random.Random,
) -> GpuLoad:
    name, gib, watts = kind
    uuid = f"GPU-{server}-{index}"
    if steady.random() > busy:
        return GpuLoad(index, uuid, name, gib * GIB, 4 * 2**20, 0.0, 31.0, 0.1 * watts, watts)
    taken = int(steady.uniform(0.1, 0.95) * gib * GIB)
    holders = steady.sample(users, steady.choice((1, 1, 1, 2)))
    share = taken // len(holders)
    used = round(steady.uniform(35, 92) + moving.uniform(-8, 8))
    return GpuLoad(
        index=index,
        uuid=uuid,
        name=name,
        memory_total=gib * GIB,
        memory_used=taken,
        utilisation=float(used),
        temperature=float(40 + used // 3),
        power=round(watts * (0.2 + used / 130)),
        power_limit=watts,
        users=tuple(GpuUser(user, share) for user in holders),
    )
