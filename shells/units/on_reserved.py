"""Who is on reserved GPUs now, and whether those are free that somebody waits for: seen and told.

For a look (`shells.units.reservations`) that has something to do. Who is no resident any more has
nothing reserved, and waits for nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from reconciler.host import journal
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


def look(
    reserved: Collection[Reservation], waiters: Collection[Wait], before: UseRecord, now: float
) -> None:
    """See, note and tell it. `reserved` aren't over, `before` is what is known, `now` is in seconds
    since the epoch. LxcGpuError if notices can't be kept."""
    view = published_view()
    if view is None:  # before the first round nobody is here
        return
    ahead = [each for each in reserved if each.user in view.residents]
    present = [each for each in ahead if each.holds(now)]
    waits = [each for each in waiters if each.user in view.residents]
    gpus = _gpus() if present or waits else None
    programs = None if gpus is None else on_gpus.programs(view, gpus)
    judged = watching.judge(before, use_record.boot_clock(), present, programs)
    # first, so that nobody is told each minute by a look that comes to no good end
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
    """All that the driver says something of; None if it says nothing, or is to be left alone."""
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


def _closed(view: View, begins: float, ends: float) -> bool:
    """Whether the whole server is, at some time in between."""
    return any(first < ends and begins < last for first, last, _ in closed(view))


def _end_waits(
    view: View,
    gpus: Collection[Gpu],
    ahead: Collection[Reservation],
    waits: Collection[Wait],
    now: float,
) -> None:
    """Tell who waits for what is free now; it is over with that."""
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
    """What all of them are, as a word; empty if they differ."""
    models = {gpu.name for gpu in gpus}
    return "".join(filter(str.isprintable, models.pop()))[:128] if len(models) == 1 else ""
