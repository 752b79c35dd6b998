"""Looks who is on reserved GPUs, and whether GPUs that users wait for are free, and tells users.

`shells.units.reservations` calls this if there is something to do. Users who aren't residents any
more have no reservations and no waits.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from reconciler.host import journal
from reconciler.host.boot import boot_clock
from reconciler.host.published import published_view
from reconciler.load import on_gpus
from reconciler.notices import store as notices
from reconciler.nvidia import nvml
from reconciler.nvidia.driver import driver
from reconciler.nvidia.nvml import Gpu
from reconciler.reservations import due_notices, telling, use_record, waiting, watching
from reconciler.reservations.book import Reservation
from reconciler.reservations.closed import closed
from reconciler.reservations.waiting import Wait
from reconciler.reservations.watching import UseRecord
from state.errors import LxcGpuError
from state.view import View
from state.wire.notices import Facts, NoticeKind
from state.words import printable


def look(
    reserved: Collection[Reservation], waiters: Collection[Wait], before: UseRecord, now: float
) -> None:
    """Look, keep the record, and tell users. LxcGpuError if notices can't be kept.

    `reserved`: the reservations that aren't over; `before`: the record so far; `now`: seconds since
    the epoch.
    """
    view = published_view()
    if view is None:  # before the first round there are no residents
        return
    ahead = [each for each in reserved if each.user in view.residents]
    present = [each for each in ahead if each.in_force(now)]
    waits = [each for each in waiters if each.user in view.residents]
    gpus = _gpus() if present or waits else None
    programs = None if gpus is None else on_gpus.programs(view, gpus)
    judged = watching.judge(before, boot_clock(), present, programs)
    # first, so that a look that fails later doesn't tell users the same each minute
    use_record.write_record(judged.record)
    if late := _tell(view, gpus or (), judged.intrusions):
        use_record.write_record(watching.rested(judged.record, late))
    for each in due_notices.due(present, judged.record, now):
        notices.say(each.user, each.kind, each.about, each.facts)
    for each in due_notices.over(before, judged.record):
        notices.withdraw(each.user, each.kind, each.about)
    if waits and gpus and not _closed(view, now, now + waiting.SOON):
        _end_waits(view, gpus, ahead, waits, now)


def _gpus() -> tuple[Gpu, ...] | None:
    """The GPUs that the driver answers for; None if it doesn't answer, or must be left alone."""
    if not driver().present:
        return None
    try:
        return nvml.read().gpus
    except LxcGpuError:
        return None


def _tell(view: View, gpus: Collection[Gpu], found: Sequence[watching.Intrusion]) -> Sequence[str]:
    """Tell users in their containers. Return those whose containers made us wait."""
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


def _closed(view: View, begins: float, ends: float) -> bool:
    """Whether the server is closed at some time in between."""
    return any(first < ends and begins < last for first, last, _ in closed(view))


def _end_waits(
    view: View,
    gpus: Collection[Gpu],
    ahead: Collection[Reservation],
    waits: Collection[Wait],
    now: float,
) -> None:
    """Tell users whose GPUs are free now, and end their waits."""
    met = list[Wait]()
    for wait in waits:
        until = now + waiting.SOON
        free = on_gpus.free_for(view, wait.user, gpus, ahead, until, wait.model)
        if len(free) >= wait.gpus:
            facts = Facts(len(free), _model(free))
            notices.say(wait.user, NoticeKind.GPUS_FREE, f"{wait.since:.3f}", facts)
            met.append(wait)
    if met:
        waiting.change(lambda everybody: everybody.without(*met), now)


def _model(gpus: Collection[Gpu]) -> str:
    """The model of all these GPUs; empty if they differ."""
    models = {gpu.name for gpu in gpus}
    return printable(models.pop(), "")[:128] if len(models) == 1 else ""
