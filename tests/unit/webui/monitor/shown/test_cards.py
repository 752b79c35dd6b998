"""What the monitor's cards show, and which of them in which order."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from state.model.announcements import Announcement
from state.wire.server_load import (
    CpuLoad,
    DriverVersions,
    FileSystem,
    GpuProblem,
    IdleContainer,
    MemoryLoad,
    MigLoad,
    ReservedGpus,
    ServerLoad,
    UserLoad,
)
from tests.patience import cpu_seconds
from tests.present import present
from tests.unit.state.state_files import state
from tests.unit.webui.monitor.small_loads import GIB, gpu, load
from webui.monitor.heard.latest import LastHeard
from webui.monitor.shown.amounts import part, ranges
from webui.monitor.shown.cards import MonitorCard, card
from webui.monitor.shown.choice import Choice, SortOrder, choice, chosen, in_order
from webui.monitor.shown.closed import Closed, closed_now, closed_times
from webui.monitor.shown.gpu_rows import short_name
from webui.monitor.shown.holdings import glance, holdings
from webui.monitor.shown.people import People
from webui.words import clock

NOW = 1_000_000.0
PEOPLE = People(state())
FULL_NAME = state().users["lqchen"].name


def shown(given: ServerLoad, heard: float = NOW, **more: Any) -> MonitorCard:
    return card(LastHeard(given.server, replace(given, at=heard), heard, **more), PEOPLE, NOW)


def test_a_server_that_makes_names_up_is_drawn_at_once() -> None:
    def with_names(count: int) -> ServerLoad:
        made_up = [f"u{i}" for i in range(count)]
        users = tuple(UserLoad(f"{name}-{n}", 1.0, 0, 1) for name in made_up for n in range(5))
        return load("gpu17", *(gpu(i, *made_up) for i in range(18)), users=users)

    some, many = with_names(100), with_names(1000)
    assert cpu_seconds(lambda: shown(many)) < 30 * cpu_seconds(lambda: shown(some))
    found = shown(many)
    assert len(present(found.numbers).users) + present(found.numbers).more_users == 5000
    row = present(found.numbers).groups[0].rows[0]
    assert (len(row.holders), row.more_holders) == (20, 980)


def test_who_holds_a_gpu_is_named_in_full_and_a_free_one_is_free() -> None:
    busy = load("gpu17", gpu(0, "lqchen"), gpu(1, busy=0.0), gpu(2, "root", busy=None))
    found = shown(busy)
    (group,) = present(found.numbers).groups
    assert [row.free for row in group.rows] == [False, True, False]
    first, _, third = group.rows
    assert (first.holders[0].person.name, first.holders[0].person.known) == (FULL_NAME, True)
    assert (third.holders[0].person.name, third.holders[0].person.known) == ("root", False)
    assert (present(first.used).words, third.used) == ("50 %", None)
    assert (first.memory.words, first.memory.share) == ("10.0 GiB", 12.5)
    assert (found.word, found.phase, found.free, found.gpus) == ("1 of 3 free", "free", 1, 3)


def test_a_gpu_that_works_for_nobody_known_is_not_free() -> None:
    found = shown(load("gpu17", gpu(0, busy=80.0)))
    assert (found.word, found.free) == ("not free", 0)


def test_a_reserved_gpu_is_said_to_be_somebody_s_and_free_for_nobody_else() -> None:
    def until(gpus: tuple[str, ...], begins: float, **more: Any) -> ReservedGpus:
        return ReservedGpus("a", "lqchen", gpus, NOW + begins, NOW + 3600, **more)

    busy = load(
        "gpu17",
        gpu(0, "ann", "bob"),
        gpu(1, busy=0.0),
        gpu(2, busy=0.0),
        reservations=(
            until(("GPU-0", "GPU-1"), -60, unused_since=NOW - 60, intruders=("bob", "chi")),
            until(("GPU-2",), 60),
        ),
    )
    found = shown(busy)
    first, second, third = present(found.numbers).groups[0].rows
    (booked,) = first.booked
    assert (booked.person.name, booked.until) == (FULL_NAME, clock(NOW + 3600, NOW))
    assert [who.user for who in booked.intruders] == ["bob"]
    assert (second.booked[0].unused_since, second.booked[0].intruders) == (NOW - 60, ())
    assert third.booked == ()
    assert (found.word, found.free, found.kept) == ("1 of 3 free", 1, 1)
    assert (
        present(glance(LastHeard("gpu17", replace(busy, at=NOW), NOW))).gpus == "1 of 3 GPUs free"
    )
    over = replace(busy, at=NOW + 3600, reservations=busy.reservations[:1])
    assert present(glance(LastHeard("gpu17", over, NOW))).gpus == "2 of 3 GPUs free"


def test_a_closed_server_has_no_free_gpu_and_says_why() -> None:
    times = closed_times(
        replace(
            state(),
            announcements={
                "switch": Announcement.model_validate(
                    {"text": "The switch is changed.", "from": "2026-12-01 08:00 +01:00",
                     "until": "2026-12-01 12:00 +01:00", "stop": True, "servers": ["gpu17"]}
                ),
                "course": Announcement.model_validate(
                    {"text": "There is a course.", "until": "2026-12-01 12:00 +01:00"}
                ),
            },
        ),
        "gpu17",
    )  # fmt: skip
    begins = 1_796_108_400.0
    assert times == (Closed(begins, begins + 4 * 3600, "The switch is changed."),)
    assert closed_now(times, begins - 1) is None
    assert closed_now(times, begins + 4 * 3600) is None
    given = load("gpu17", gpu(0, busy=0.0))
    found = card(LastHeard("gpu17", given, begins), PEOPLE, begins, closed_now(times, begins))
    assert (found.word, found.free, found.kept) == ("closed", 0, 0)
    assert found.notes[0].text == "The switch is changed."
    seen = LastHeard("gpu17", given, begins)
    assert (present(glance(seen)).gpus, present(glance(seen)).free) == ("1 of 1 GPU free", True)
    shut = present(glance(seen, times[0]))
    assert (shut.gpus, shut.free) == ("Closed for maintenance", False)
    assert found.notes[0].title == f"Closed until {clock(begins + 4 * 3600, begins)}"


def test_an_instance_of_a_shared_out_gpu_is_reserved_for_itself() -> None:
    parts = tuple(MigLoad(f"MIG-{n}", f"{n}g.10gb", 10 * GIB, 0) for n in (1, 2))
    reserved = ReservedGpus("a", "lqchen", ("MIG-2", "MIG-9"), NOW, NOW + 9)
    found = shown(load("gpu17", replace(gpu(0, busy=0.0), mig=parts), reservations=(reserved,)))
    (row,) = present(found.numbers).groups[0].rows
    assert [each.part for each in row.booked] == ["2g.10gb"]


def test_gpus_of_one_name_are_one_group() -> None:
    other = replace(gpu(2), name="NVIDIA GeForce RTX 4090", memory_total=24 * GIB, power_limit=450)
    found = shown(load("gpu17", gpu(0), gpu(1), other, gpu(3)))
    groups = [(each.name, each.each, len(each.rows)) for each in present(found.numbers).groups]
    assert groups == [("A100", "80.0 GiB", 2), ("RTX 4090", "24.0 GiB, 450 W", 1),
                      ("A100", "80.0 GiB", 1)]  # fmt: skip
    assert short_name("") == "GPU"


def test_the_parts_of_a_shared_gpu_are_shown() -> None:
    mig = (MigLoad("MIG-1", "1g.10gb", 10 * GIB, 4 * GIB),)
    found = shown(load("gpu17", replace(gpu(0), mig=mig)))
    ((name, bar),) = present(found.numbers).groups[0].rows[0].parts
    assert (name, bar.words, bar.share) == ("1g.10gb", "4.0 / 10.0 GiB", 40)


def test_a_silent_server_frees_no_gpu_and_says_how_old_its_numbers_are() -> None:
    before = load("gpu17", gpu(0, busy=0.0))
    found = shown(before, NOW - 300, silent_since=NOW - 290, why="No route to host.", hint="Look.")
    assert (found.word, found.free, found.old, found.cpu) == ("silent", 0, True, None)
    assert found.numbers is not None
    assert found.notes[0].text == "No route to host. The numbers below are 5 minutes old."
    never = card(LastHeard("gpu18", silent_since=NOW - 60, why="No route to host."), PEOPLE, NOW)
    assert (never.word, never.phase, never.numbers) == ("not heard", "never", None)
    assert never.notes[0].text == "No route to host."
    waiting = card(LastHeard("gpu18"), PEOPLE, NOW)
    assert (waiting.word, waiting.notes) == ("not heard yet", ())


def test_what_is_wrong_is_said_in_words() -> None:
    wrong = load(
        "gpu17",
        driver=DriverVersions("550.1", "555.2"),
        gpu_problem=GpuProblem("driver-hangs", "The driver doesn't answer."),
        file_systems=(FileSystem("/", 100 * GIB, 5 * GIB), FileSystem("/data", GIB, GIB)),
    )
    found = card(LastHeard("gpu17", replace(wrong, at=NOW + 600), NOW), PEOPLE, NOW)
    titles = [line.title for line in found.notes]
    assert titles == [
        "Its GPUs can't be read",
        "NVIDIA's module and libraries don't match",
        "Its clock is wrong",
        "/ is nearly full",
    ]
    assert (found.word, found.notes[0].code) == ("GPUs not known", "driver-hangs")
    assert "10 minutes ahead" in found.notes[2].text


def test_a_server_without_gpus_says_so_and_nothing_of_them() -> None:
    found = shown(load("gpu17"))
    assert (found.word, present(found.numbers).groups, found.notes, found.gpu) == (
        "no GPU",
        (),
        (),
        None,
    )


def test_numbers_that_cannot_be_are_drawn_within_their_bar() -> None:
    odd = load("gpu17", replace(gpu(0), memory_total=0, memory_used=5))
    odd = replace(odd, memory=MemoryLoad(GIB, 3 * GIB), file_systems=(FileSystem("/", 0, 9),))
    numbers = present(shown(odd).numbers)
    assert (numbers.memory.share, numbers.disks[0].bar.share) == (0, 0)
    assert numbers.groups[0].rows[0].memory.share == 0


def test_users_are_listed_with_their_gpus() -> None:
    users = (UserLoad("lqchen", 3.25, 2 * GIB, 4), UserLoad("system", 0.5, GIB, 90))
    given = load("gpu17", gpu(0, "lqchen"), gpu(1, "lqchen"), gpu(3, "lqchen"), users=users)
    found = present(shown(given).numbers).users
    assert [row.person.name for row in found] == [FULL_NAME, "the system"]
    assert (found[0].gpus, found[0].gpu_memory, found[0].cpus) == ("0-1, 3", "30.0 GiB", "3.2")
    assert (found[1].gpus, found[1].gpu_memory) == ("", "")


def test_what_somebody_holds_everywhere() -> None:
    one = load("gpu17", gpu(4, "lqchen"), users=(UserLoad("lqchen", 1.0, GIB, 3),))
    two = load("gpu18", gpu(0, "ann"), idle=(IdleContainer("lqchen", 5.0),))
    seen = [
        LastHeard("gpu17", one, NOW),
        LastHeard("gpu18", two, NOW, silent_since=NOW),
        LastHeard("gpu19"),
    ]
    first, second = holdings("lqchen", seen)
    assert (first.server, first.gpus, first.gpu_memory, first.cpus) == (
        "gpu17", "4", "10.0 GiB", "1.0",
    )  # fmt: skip
    assert (second.server, second.gpus, second.idle_since, second.silent_since) == (
        "gpu18", "", 5.0, NOW,
    )  # fmt: skip
    assert holdings("nobody", seen) == ()


def test_one_that_was_stopped_because_nobody_used_it() -> None:
    gone = load("gpu18", gpu(0, "ann"), stopped_idle=(IdleContainer("lqchen", 5.0),))
    (found,) = holdings("lqchen", [LastHeard("gpu18", gone, NOW)])
    assert (found.stopped_since, found.idle_since, found.gpus) == (5.0, None, "")


def test_a_server_at_a_glance() -> None:
    assert glance(None) is None
    assert glance(LastHeard("gpu17", silent_since=NOW)) is None
    given = load("gpu17", gpu(0, busy=0.0), gpu(1, "ann"), driver=DriverVersions("1", "2"))
    found = present(glance(LastHeard("gpu17", given, NOW)))
    assert (found.gpus, found.free, found.driver, found.in_step) == (
        "1 of 2 GPUs free", True, "1", False,
    )  # fmt: skip
    assert present(glance(LastHeard("gpu17", given, NOW, silent_since=NOW))).gpus == ""
    assert present(glance(LastHeard("gpu17", load("gpu17"), NOW))).gpus == ""


@pytest.mark.parametrize(
    ("used", "total", "words"),
    [(0, 0, "0.0 / 0.0 MiB"), (2**29, 2**30, "0.5 / 1.0 GiB"), (2**40, 2**42, "1.0 / 4.0 TiB")],
)
def test_a_part_is_said_in_one_unit(used: int, total: int, words: str) -> None:
    assert part(used, total) == words


def test_neighbours_become_ranges() -> None:
    assert ranges([3, 0, 1, 2, 7]) == "0-3, 7"
    assert ranges([]) == ""


def fleet() -> list[MonitorCard]:
    quiet = replace(load("gpu2", gpu(0, busy=0.0), gpu(1, "ann")), cpu=CpuLoad(90.0, 4))
    busy = load("gpu10", gpu(0, "lqchen", busy=99.0), users=(UserLoad("lqchen", 1.0, 1, 1),))
    silent = card(LastHeard("gpu11", load("gpu11", gpu(0)), NOW, NOW, "gone"), PEOPLE, NOW)
    return [shown(quiet), shown(busy), silent]


@pytest.mark.parametrize(
    ("words", "servers"),
    [
        ({}, ["gpu2", "gpu10", "gpu11"]),
        ({"free": "1"}, ["gpu2"]),
        ({"free": "0"}, ["gpu2", "gpu10", "gpu11"]),
        ({"user": "lqchen"}, ["gpu10"]),
        ({"user": "LQChen"}, ["gpu10"]),
        ({"me": "ann"}, ["gpu2"]),
        ({"user": FULL_NAME.split()[0]}, ["gpu10"]),
        ({"user": FULL_NAME.split()[0][:2]}, []),
        ({"text": "a100"}, ["gpu2", "gpu10", "gpu11"]),
        ({"text": "GPU1"}, ["gpu10", "gpu11"]),
        ({"text": "<script>"}, []),
        ({"sort": "cpu"}, ["gpu2", "gpu10", "gpu11"]),
        ({"sort": "gpu"}, ["gpu10", "gpu2", "gpu11"]),
        ({"sort": "free"}, ["gpu2", "gpu10", "gpu11"]),
        ({"sort": "nonsense", "text": " "}, ["gpu2", "gpu10", "gpu11"]),
    ],
)
def test_what_the_address_asks_for(words: dict[str, str], servers: list[str]) -> None:
    assert [each.server for each in chosen(fleet(), choice(words))] == servers


def test_an_address_is_read_with_patience() -> None:
    long = choice({"text": "x" * 5000, "sort": "free", "free": "yes"})
    assert (len(long.text), long.order, long.free) == (100, SortOrder.FREE, True)
    assert Choice().everything
    assert not Choice(user="ann").everything
    assert sorted(["gpu10", "gpu2", "a", "gpu"], key=in_order) == ["a", "gpu", "gpu2", "gpu10"]
