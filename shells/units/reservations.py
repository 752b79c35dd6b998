"""One look at reserved GPUs: what lxc-gpu-reservations.service runs, as root.

NVIDIA's driver is asked only where something is reserved now.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence

from reconciler.host import journal
from reconciler.host.published import published_view
from reconciler.load import on_gpus
from reconciler.notices import kept as notices
from reconciler.nvidia import nvml
from reconciler.nvidia.driver import driver
from reconciler.nvidia.nvml import Gpu
from reconciler.reservations import due, kept, seen, telling, watching
from state.errors import LxcGpuError
from state.view import View


def main(argv: Sequence[str]) -> int:
    """Look, keep what is known then, and tell people; the exit status."""
    view = published_view()
    if view is None:  # before the first round nobody is here
        return 0
    try:
        _look(view, time.time(), seen.boot_clock())
    except (LxcGpuError, OSError) as error:
        code = error.code if isinstance(error, LxcGpuError) else "system"
        journal.event("reservations-failed", code=code, why=str(error))
        return 1
    return 0


def _look(view: View, now: float, clock: float) -> None:
    present = [each for each in kept.read_open().at(now) if each.user in view.residents]
    gpus = _gpus() if present else None
    before = seen.read_record()
    programs = None if gpus is None else on_gpus.programs(view, gpus)
    judged = watching.judge(before, clock, present, programs)
    if judged.record.of or before.of:
        # first, so that nobody is told each minute by a look that comes to no good end
        seen.write_record(judged.record)
    if late := _tell(view, gpus or (), judged.intrusions):
        seen.write_record(watching.rested(judged.record, late))
    for each in due.due(present, judged.record, now):
        notices.say(each.user, each.kind, each.about, each.facts)
    for each in due.over(before, judged.record):
        notices.withdraw(each.user, each.kind, each.about)


def _gpus() -> tuple[Gpu, ...] | None:
    """All that the driver says something of; None if it says nothing."""
    if not driver().present:
        return None
    try:
        return nvml.read().gpus
    except LxcGpuError:
        return None


def _tell(view: View, gpus: Collection[Gpu], found: Sequence[watching.Intrusion]) -> Sequence[str]:
    """Tell them; whose containers let us wait."""
    numbers = {gpu.uuid: gpu.index for gpu in gpus}
    by_user = dict[str, list[watching.Intrusion]]()
    for each in found:
        by_user.setdefault(each.user, []).append(each)
    for user, theirs in by_user.items():
        owners = sorted({each.reservation.user for each in theirs})
        journal.event("on-reserved-gpu", user=user, of=",".join(owners))
    return telling.tell(
        {u: telling.words(view.server, theirs, numbers) for u, theirs in by_user.items()}
    )
