"""What counts between two loads."""

from __future__ import annotations

import pytest

from state.wire.server_load import GpuUser, ReservedGpus, UserLoad
from tests.present import present
from tests.unit.webui.monitor.small_loads import GIB, gpu, load
from webui.monitor.past.accounting import Usage, step


def test_a_gpu_counts_for_who_holds_it_times_what_it_does() -> None:
    taken = present(step(100, 105, load("gpu17", gpu(0, "ann", busy=40.0), gpu(1))))
    assert taken.users == {"ann": Usage(gpu=5, gpu_busy=2, gpu_memory=50 * GIB)}
    assert taken.gpus == 10
    assert (taken.levels.seconds, taken.levels.cpu, taken.levels.memory) == (5, 100, 125)
    assert taken.levels.gpu == pytest.approx(5 * 45)
    assert taken.levels.held == pytest.approx(5 * 50)


def test_a_gpu_that_several_hold_counts_in_equal_parts() -> None:
    both = present(step(0, 6, load("gpu17", gpu(0, "ann", "bob", "system")))).users
    assert both["ann"].gpu == both["bob"].gpu == 3
    assert "system" not in both


def test_who_is_named_twice_by_one_gpu_holds_it_once() -> None:
    twice = gpu(0, "ann", "bob")
    users = (*twice.users, GpuUser("ann", GIB))
    taken = present(step(0, 4, load("gpu17", type(twice)(**{**vars(twice), "users": users}))))
    assert taken.users["ann"].gpu == 2
    assert taken.users["ann"].gpu_memory == 4 * 11 * GIB


def test_cpus_and_memory() -> None:
    users = (UserLoad("ann", 2.5, GIB, 3), UserLoad("system", 1.0, 9 * GIB, 100))
    assert present(step(0, 4, load(users=users))).users == {"ann": Usage(cpu=10, memory=4 * GIB)}


def test_what_is_not_told_is_not_counted_as_nothing() -> None:
    levels = present(step(0, 5, load("gpu17", gpu(0, "ann", busy=None)))).levels
    assert levels.gpu_seconds == 0
    assert levels.held_seconds == 5
    assert present(step(0, 5, load())).levels.held_seconds == 0


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
def test_a_longer_step_is_a_gap(seconds: float, interval: float, counts: bool) -> None:
    assert (step(1000, 1000 + seconds, load(interval=interval)) is not None) is counts


def test_a_server_without_memory_says_nothing_absurd() -> None:
    from state.wire.server_load import MemoryLoad

    assert present(step(0, 5, load(memory=MemoryLoad(0, 10)))).levels.memory == 0
    assert present(step(0, 5, load(memory=MemoryLoad(10, 20)))).levels.memory == 0


def reserved(user: str, begins: float, ends: float, *gpus: int) -> ReservedGpus:
    return ReservedGpus(f"{user}-1", user, tuple(f"GPU-{each}" for each in gpus), begins, ends)


def test_a_reserved_gpu_counts_and_so_does_that_nobody_uses_it() -> None:
    two = reserved("ann", 100.0, 200.0, 0, 1)
    told = load("gpu17", gpu(0, "ann"), gpu(1, "bob"), at=150.0, reservations=(two,))
    users = present(step(0, 4, told)).users
    assert (users["ann"].gpu, users["ann"].reserved, users["ann"].unused) == (4, 8, 4)
    assert (users["bob"].gpu, users["bob"].reserved) == (4, 0)


@pytest.mark.parametrize(("at", "counts"), [(99.0, 0), (100.0, 4), (199.9, 4), (200.0, 0)])
def test_a_reservation_counts_from_its_beginning_to_before_its_end(at: float, counts: int) -> None:
    told = load("gpu17", gpu(0), at=at, reservations=(reserved("ann", 100.0, 200.0, 0),))
    users = present(step(0, 4, told)).users
    assert users.get("ann", Usage()).reserved == users.get("ann", Usage()).unused == counts


def test_a_server_that_makes_reservations_up_makes_no_more_hours_than_there_are_gpus() -> None:
    many = tuple(reserved(f"user{n % 3}", 0.0, 9.0, 0, 1, 2) for n in range(500))
    nobody = (reserved("system", 0.0, 9.0, 1), reserved("", 0.0, 9.0, 1))
    told = load("gpu17", gpu(0), gpu(1), at=1.0, reservations=(*many, *nobody))
    assert sum(each.reserved for each in present(step(0, 4, told)).users.values()) == 8
    unknown = load("gpu17", at=1.0, reservations=many)
    assert present(step(0, 4, unknown)).users == {}
