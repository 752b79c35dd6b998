"""Who gets which CPUs, on described machines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.cpus.machine import Cpus, Machine, in_words, parse
from reconciler.cpus.sharing import shared_out

Held = Mapping[str, Cpus]


def machine_of(sockets: int, cores: int, threads: int = 1, nodes: int = 1) -> Machine:
    """So many sockets of so many cores; `nodes` in each socket."""
    every = sockets * cores
    whole = tuple(frozenset(c + t * every for t in range(threads)) for c in range(every))

    def group(size: int) -> tuple[Cpus, ...]:
        return tuple(
            frozenset().union(*whole[first : first + size]) for first in range(0, every, size)
        )

    return Machine(whole, group(cores), group(cores // nodes))


LARGE = machine_of(2, 64, threads=2)
QUARTERED = machine_of(2, 64, threads=2, nodes=4)
SMALL = machine_of(1, 2)


def words(table: Held) -> dict[str, str]:
    return {name: in_words(cpus) for name, cpus in table.items()}


def nodes_of(machine: Machine, cpus: Cpus) -> int:
    return sum(bool(node & cpus) for node in machine.nodes)


class TestWhoComes:
    def test_takes_cores_of_their_own_in_the_emptiest_node(self) -> None:
        table: Held = {}
        for name in ("ann", "bob", "lqchen"):
            table = shared_out(LARGE, dict.fromkeys([*table, name], 16), table)
        assert words(table) == {"ann": "0-15", "bob": "64-79", "lqchen": "16-31"}

    def test_takes_the_second_threads_when_all_cores_have_somebody(self) -> None:
        table: Held = {}
        for number in range(10):
            table = shared_out(LARGE, dict.fromkeys([*table, f"u{number}"], 16), table)
        on = Counter(cpu for cpus in table.values() for cpu in cpus)
        assert set(on.values()) == {1}
        assert words(table)["u8"] == "128-143"

    def test_moves_nobody(self) -> None:
        table: Held = {}
        for number in range(40):
            before = table
            wanted = dict.fromkeys([*table, f"u{number}"], 16)
            table = shared_out(LARGE, wanted, table)
            assert {name: table[name] for name in before} == before
        on = Counter(cpu for cpus in table.values() for cpu in cpus)
        assert set(on.values()) <= {2, 3}, "40 x 16 of 256: all are as full"

    def test_stays_in_one_node_and_one_socket_where_they_hold_it(self) -> None:
        for count, socket, node in ((8, 1, 1), (32, 1, 1), (33, 1, 2), (100, 1, 4), (200, 2, 7)):
            (cpus,) = shared_out(QUARTERED, {"ann": count}, {}).values()
            sockets = sum(bool(s & cpus) for s in QUARTERED.sockets)
            assert (sockets, nodes_of(QUARTERED, cpus)) == (socket, node), count

    def test_sees_everything_when_it_may_use_everything(self) -> None:
        """Also when it may use more than there is."""
        assert shared_out(SMALL, {"ann": 2, "bob": 16, "lqchen": 1}, {}) == {"lqchen": parse("0")}

    def test_counts_those_that_are_no_residents_any_more(self) -> None:
        assert words(shared_out(SMALL, {"ann": 1}, {"left": parse("0")})) == {"ann": "1"}


class TestWhoGoes:
    def test_makes_room_for_those_who_share(self) -> None:
        two = machine_of(2, 2)
        table = shared_out(two, dict.fromkeys("abc", 2), {})
        assert words(table) == {"a": "0-1", "b": "2-3", "c": "0-1"}
        del table["b"]  # type: ignore[attr-defined]
        assert sorted(words(shared_out(two, {"a": 2, "c": 2}, table)).values()) == ["0-1", "2-3"]

    def test_has_one_cpu_exchanged_where_one_is_shared(self) -> None:
        held = {"a": parse("0-2"), "b": parse("2-3")}
        after = shared_out(machine_of(1, 8), {"a": 3, "b": 2}, held)
        assert words(after) == {"a": "0-1,4", "b": "2-3"}

    def test_has_cores_to_themselves_before_threads(self) -> None:
        held = {"a": parse("0"), "b": parse("4")}  # of one core
        after = shared_out(machine_of(1, 4, threads=2), {"a": 1, "b": 1}, held)
        assert words(after) == {"a": "1", "b": "4"}

    def test_moves_nobody_from_their_memory_for_little(self) -> None:
        """b shares two of its eight CPUs: not worth another node."""
        held = {"a": parse("0-1"), "b": parse("0-7")}
        assert shared_out(machine_of(2, 8), {"a": 2, "b": 8}, held)["b"] == held["b"]

    def test_leaves_who_shares_nothing_where_they_are(self) -> None:
        held = {"a": parse("0-3,128-131"), "b": parse("10,20,30")}
        wanted = {"a": 8, "b": 3}
        after = shared_out(LARGE, wanted, held)
        assert after["b"] == held["b"]
        assert len(after["a"] & held["a"]) == 4, "the others get cores of their own"


class TestChanges:
    def test_of_a_limit_keep_what_can_be_kept(self) -> None:
        held = {"a": parse("64-79")}
        assert shared_out(LARGE, {"a": 32}, held)["a"] > held["a"]
        assert nodes_of(LARGE, shared_out(LARGE, {"a": 32}, held)["a"]) == 1
        assert shared_out(LARGE, {"a": 4}, held)["a"] < held["a"]
        assert shared_out(LARGE, {}, held) == {}

    def test_of_the_machine_replace_only_what_is_gone(self) -> None:
        held = {"a": parse("0-3"), "b": parse("4-7")}
        after = shared_out(machine_of(1, 16).only(parse("0-2,4-15")), {"a": 4, "b": 4}, held)
        assert words(after) == {"a": "0-2,8", "b": "4-7"}
        gone = shared_out(machine_of(1, 16).only(parse("8-15")), {"a": 4, "b": 4}, held)
        assert all(len(cpus) == 4 and min(cpus) >= 8 for cpus in gone.values())


MACHINES = [SMALL, machine_of(1, 1), machine_of(1, 6, threads=2), machine_of(2, 4, threads=2),
            machine_of(2, 4, nodes=2), machine_of(3, 3)]  # fmt: skip


@pytest.mark.parametrize("machine", MACHINES)
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_whatever_comes_and_goes(machine: Machine, data: st.DataObject) -> None:
    """Everybody has what was promised, nothing changes twice, and nobody is left crowded."""
    some = st.sets(st.sampled_from(sorted(machine.cpus | {98, 99})), max_size=12)
    held = data.draw(st.dictionaries(st.sampled_from("abcdefgh"), some.map(frozenset)))
    wanted = data.draw(st.dictionaries(st.sampled_from("abcdefgh"), st.integers(1, 20)))
    after = shared_out(machine, wanted, held)
    everything = len(machine.cpus)
    assert {n: len(c) for n, c in after.items()} == {
        n: count for n, count in wanted.items() if count < everything
    }
    assert all(cpus <= machine.cpus for cpus in after.values())
    rest = {name: cpus for name, cpus in held.items() if name not in after}
    assert shared_out(machine, wanted, {**rest, **after}) == after
    on = Counter(cpu for cpus in (*after.values(), *rest.values()) for cpu in cpus)
    for cpus in after.values():
        for node in (node for node in machine.nodes if node & cpus):
            emptiest = min((on[cpu] for cpu in node - cpus), default=99)
            assert max(on[cpu] for cpu in node & cpus) <= emptiest + 1
