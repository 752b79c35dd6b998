"""What a drop-in sets, and what systemd says is in effect."""

from __future__ import annotations

import pytest

from reconciler.kinds.containers.limits import NO_LIMIT, LimitsKind, UnitLimits, in_effect
from reconciler.plan import Change

ALL = UnitLimits(memory=1 << 30, cpus=64, tasks=300)


def test_a_drop_in_says_only_what_is_limited() -> None:
    assert ALL.drop_in().splitlines()[1:] == [
        "[Service]", "MemoryMax=1073741824", "CPUQuota=6400%", "TasksMax=300",
    ]  # fmt: skip
    assert UnitLimits().drop_in().splitlines()[1:] == ["[Service]"]


def test_what_goes_back_to_the_default_is_set_as_well() -> None:
    """systemd 257 changes nothing of a unit that runs but what it is told."""
    defaults = UnitLimits(memory=90, cpus=NO_LIMIT, tasks=16384)
    assert UnitLimits(memory=5).over(defaults).settings() == [
        "MemoryMax=5", "CPUQuota=", "TasksMax=16384",
    ]  # fmt: skip
    assert UnitLimits(cpus=2).over(defaults) == UnitLimits(90, 2, 16384)


@pytest.mark.parametrize(
    ("span", "cpus"),
    [("1s", 1), ("16s", 16), ("1min 4s", 64), ("1min", 60), ("1h 8min 16s", 4096),
     ("infinity", NO_LIMIT), ("", NO_LIMIT)],
)  # fmt: skip
def test_cpus_are_read_from_time_spans(span: str, cpus: int) -> None:
    shown = {"MemoryMax": "1073741824", "CPUQuotaPerSecUSec": span, "TasksMax": "300"}
    assert in_effect(ALL.drop_in(), shown) == UnitLimits(1 << 30, cpus, 300)


def test_what_a_drop_in_does_not_set_is_no_business_of_ours() -> None:
    shown = {"MemoryMax": "infinity", "CPUQuotaPerSecUSec": "infinity", "TasksMax": "16384"}
    assert in_effect(UnitLimits(tasks=5).drop_in(), shown) == UnitLimits(tasks=16384)
    assert in_effect(UnitLimits(memory=5).drop_in(), shown) == UnitLimits(memory=NO_LIMIT)
    assert in_effect("", shown) == UnitLimits()


def test_one_cpu_is_described_as_one() -> None:
    change = Change("ann", None, UnitLimits(cpus=1, tasks=2))
    assert LimitsKind().describe(change) == "limit ann's container: 1 cpu, 2 tasks"
