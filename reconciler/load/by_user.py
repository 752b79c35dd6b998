"""Adds up what each user's programs used between two looks at all processes. Pure.

Programs that began and ended in between are counted, too: the kernel adds their CPU time to their
parent's when it waits for them (`reaped`, proc(5)).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from reconciler.load.process_table import ProcessSample
from reconciler.load.processes import TICK
from state.wire.server_load import SYSTEM, UserLoad

Looked = Mapping[int, ProcessSample]


@dataclass
class _UserSum:
    spent: int = 0
    reaped: int = 0
    memory: int = 0
    programs: int = 0


def uses(
    before: Looked, now: Looked, seconds: float, busy: float, name_of: Callable[[int], str]
) -> tuple[UserLoad, ...]:
    """What each user's programs use, the busiest user first.

    `seconds`: the time between the two looks. `busy`: the seconds of CPU time that the whole
    machine used meanwhile. Short-lived programs together are never counted with more than what the
    others leave of that.
    """
    sums = dict[str, _UserSum]()
    for pid, seen in now.items():
        mine = _of(sums, name_of(seen.uid))
        mine.memory += seen.memory
        mine.programs += seen.runs
        old = before.get(pid)
        if old is seen:
            continue
        if old is not None and old.started == seen.started:
            mine.spent += max(0, seen.spent - old.spent)
            mine.reaped += max(0, seen.reaped - old.reaped)
        else:
            mine.spent += seen.spent
            mine.reaped += seen.reaped
    _take_what_was_counted(sums, before, now, name_of)
    left = max(0.0, busy * TICK - sum(each.spent for each in sums.values()))
    between = {name: max(0, each.reaped) for name, each in sums.items() if name != SYSTEM}
    share = min(1.0, left / total) if (total := sum(between.values())) else 0.0
    found = (
        UserLoad(
            name,
            round((each.spent + between.get(name, 0) * share) / TICK / seconds, 3),
            each.memory,
            each.programs,
        )
        for name, each in sums.items()
        if each.programs
    )
    return tuple(sorted(found, key=lambda use: (-use.cpus, -use.memory, use.user)))


def _of(sums: dict[str, _UserSum], name: str) -> _UserSum:
    found = sums.get(name)
    if found is None:
        found = sums[name] = _UserSum()
    return found


def _take_what_was_counted(
    sums: dict[str, _UserSum], before: Looked, now: Looked, name_of: Callable[[int], str]
) -> None:
    """Subtract from `reaped` what ended programs had used by the last look: it was counted then.

    It is subtracted from the nearest ancestor that is left, which may be another user's (su, sudo).
    """
    for pid, heir in _heirs(before, now).items():
        if heir in before:
            ended = before[pid]
            _of(sums, name_of(before[heir].uid)).reaped -= ended.spent + ended.reaped


def _heirs(before: Looked, now: Looked) -> Mapping[int, int]:
    """For each program that has ended, its nearest ancestor that runs or is unknown.

    Each program is visited once, since chains of thousands may end together.
    """
    heirs = dict[int, int]()
    for pid in before:
        passed, above = list[int](), pid
        while above in before and above not in heirs and not _still(above, before[above], now):
            # pids are reused: a program that seems to be its own ancestor has none
            heirs[above] = 0
            passed.append(above)
            above = before[above].parent
        heir = heirs.get(above, above)
        heirs.update((each, heir) for each in passed)
    return heirs


def _still(pid: int, seen: ProcessSample, now: Looked) -> bool:
    found = now.get(pid)
    return found is not None and found.started == seen.started
