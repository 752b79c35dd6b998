"""What counts between two loads."""

from __future__ import annotations

import pytest

from state.wire.server_load import GpuUser, UserLoad
from tests.unit.webui.monitor.small_loads import GIB, gpu, load
from webui.monitor.past.accounting import Usage, step


def test_a_gpu_counts_for_who_holds_it_times_what_it_does():
    taken = step(100, 105, load("gpu17", gpu(0, "ann", busy=40.0), gpu(1)))
    assert taken.users == {"ann": Usage(gpu=5, gpu_busy=2, gpu_memory=50 * GIB)}
    assert taken.gpus == 10
    assert (taken.levels.seconds, taken.levels.cpu, taken.levels.memory) == (5, 100, 125)
    assert taken.levels.gpu == pytest.approx(5 * 45)
    assert taken.levels.held == pytest.approx(5 * 50)


def test_a_gpu_that_several_hold_counts_in_equal_parts():
    both = step(0, 6, load("gpu17", gpu(0, "ann", "bob", "system"))).users
    assert both["ann"].gpu == both["bob"].gpu == 3
    assert "system" not in both


def test_who_is_named_twice_by_one_gpu_holds_it_once():
    twice = gpu(0, "ann", "bob")
    users = (*twice.users, GpuUser("ann", GIB))
    taken = step(0, 4, load("gpu17", type(twice)(**{**vars(twice), "users": users})))
    assert taken.users["ann"].gpu == 2
    assert taken.users["ann"].gpu_memory == 4 * 11 * GIB


def test_cpus_and_memory():
    users = (UserLoad("ann", 2.5, GIB, 3), UserLoad("system", 1.0, 9 * GIB, 100))
    assert step(0, 4, load(users=users)).users == {"ann": Usage(cpu=10, memory=4 * GIB)}


def test_what_is_not_told_is_not_counted_as_nothing():
    levels = step(0, 5, load("gpu17", gpu(0, "ann", busy=None))).levels
    assert levels.gpu_seconds == 0
    assert levels.held_seconds == 5
    assert step(0, 5, load()).levels.held_seconds == 0


@pytest.mark.parametrize(
    ("seconds", "interval", "counts"),
    [
        (15.0, 5.0, True),
        (15.1, 5.0, False),
        (0.0, 5.0, False),
        (-3600.0, 5.0, False),  # our clock was put back
        (180.0, 3600.0, True),
        (181.0, 3600.0, False),  # a server that claims to be slow gets no hour for one load
        (10.0, 0.0, True),
    ],
)
def test_a_longer_step_is_a_gap(seconds, interval, counts):
    assert (step(1000, 1000 + seconds, load(interval=interval)) is not None) is counts


def test_a_server_without_memory_says_nothing_absurd():
    from state.wire.server_load import MemoryLoad

    assert step(0, 5, load(memory=MemoryLoad(0, 10))).levels.memory == 0
    assert step(0, 5, load(memory=MemoryLoad(10, 20))).levels.memory == 0
