"""Asks NVIDIA's driver, for reservations: whose programs are on which GPU, and which are free.

Standard library only. Changes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import suppress

from reconciler.load import processes
from reconciler.load.owners import Owners
from reconciler.load.processes import PROC
from reconciler.nvidia import nodes
from reconciler.nvidia.nvml import Gpu
from reconciler.reservations.book import Reservation
from reconciler.reservations.watching import Program, Programs
from state.view import View


def programs(view: View, gpus: Collection[Gpu]) -> Programs:
    """The programs of residents' containers, by the GPU's UUID. Those that have ended are left out.

    Programs of the server's own accounts are left out: they can't reserve GPUs.
    """
    owners = Owners(view)
    folder = os.open(PROC, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return {gpu.uuid: tuple(_on(gpu, owners, folder)) for gpu in gpus}
    finally:
        os.close(folder)


def _on(gpu: Gpu, owners: Owners, folder: int) -> Iterator[Program]:
    for each in gpu.processes:
        with suppress(OSError, ValueError, IndexError):
            uid, _ = processes.of_status(processes.text(folder, f"{each.pid}/status"))
            user = owners.of(uid)
            if user is not None:
                stat = processes.of_stat(processes.text(folder, f"{each.pid}/stat"))
                yield Program(user, each.pid, stat.started)


def in_sight(view: View, user: str, gpus: Collection[Gpu]) -> tuple[Gpu, ...]:
    """The GPUs that the user's container sees. Pure."""
    cards = [nodes.Card(gpu.uuid, gpu.minor) for gpu in gpus]
    minors, _ = nodes.choose(view.residents[user].gpus, cards)
    return tuple(gpu for gpu in gpus if minors is None or gpu.minor in minors)


def is_free(gpu: Gpu) -> bool:
    """Whether no program is on the GPU and it does nothing. Pure.

    The page counts in the same way (`state.wire.server_load.GpuLoad`).
    """
    idle = gpu.utilisation is None or gpu.utilisation < 5
    return not gpu.processes and idle and gpu.memory_used <= gpu.memory_total // 10


def free_for(
    view: View,
    user: str,
    gpus: Collection[Gpu],
    ahead: Collection[Reservation],
    until: float,
    model: str = "",
) -> tuple[Gpu, ...]:
    """The free GPUs that the user's container sees, of a model whose name contains `model`.

    GPUs that others have reserved before `until` are left out. `ahead`: reservations that aren't
    over. `model`: in lower case. Pure.
    """
    others = {gpu for each in ahead if each.user != user and each.begins < until
              for gpu in each.gpus}  # fmt: skip
    return tuple(
        gpu
        for gpu in of_model(in_sight(view, user, gpus), model)
        if is_free(gpu) and gpu.uuid not in others
    )


def of_model(gpus: Collection[Gpu], model: str) -> tuple[Gpu, ...]:
    """The GPUs whose name contains `model`, which is in lower case: `a100`. Pure."""
    return tuple(gpu for gpu in gpus if model in gpu.name.lower())
