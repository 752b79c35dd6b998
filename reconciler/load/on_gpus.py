"""What NVIDIA's driver says of the GPUs, for reservations: whose programs are where.

Standard library only. Changes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import suppress

from reconciler.load import processes
from reconciler.load.owners import Owners
from reconciler.load.processes import PROC
from reconciler.nvidia.nvml import Gpu
from reconciler.reservations.watching import Program, Programs
from state.view import View


def programs(view: View, gpus: Collection[Gpu]) -> Programs:
    """Those of residents' containers, by the GPU's UUID. Who has ended meanwhile is left out.

    Programs of the server's own accounts are nobody's: they reserve nothing.
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
