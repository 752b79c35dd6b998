"""Decides which containers get which CPUs. Pure.

Each container gets as many CPUs as its limit says: those with the fewest containers on them, then
those on the emptiest cores, within as few sockets and nodes of memory as possible. A running
container is moved only if somebody gains by it. Moving has its price: caches and memory stay
behind, and kernels before 6.2 forget which CPUs a program chose for itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from reconciler.cpus.machine import Cpus, Machine

WORTH_A_MOVE = 1.0
"""How many neighbours fewer a container's CPUs have to have, on average, for it to be moved to
other nodes, away from its memory. Within its nodes, each CPU that gains is exchanged."""
_NONE: Cpus = frozenset()
Cost = tuple[int, int]
"""The load of one CPU: how many containers are on it, and on its core."""


def shared_out(
    machine: Machine, wanted: Mapping[str, int], held: Mapping[str, Cpus]
) -> Mapping[str, Cpus]:
    """The CPUs of each container in `wanted`: as many as it wants. One that wants all is left out.

    `held`: the CPUs that containers have now, whether or not they are in `wanted`.
    """
    some = {name: count for name, count in wanted.items() if count < len(machine.cpus)}
    table = _Table(machine)
    for name in sorted(held):
        table.add(name, held[name] & machine.cpus)
    # Containers with CPUs keep them; then the largest come, while one place has room.
    for name in sorted(some, key=lambda n: (not table.of(n), -some[n], n)):
        table.resize(name, some[name])
    while any(table.eased(name) for name in sorted(some)):
        pass  # each exchange leaves fewer that share a CPU or a core, so this ends
    return {name: table.of(name) for name in some}


class _Table:
    """Which containers are on which CPUs, and how many are on each CPU and core."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._core_of = {cpu: n for n, core in enumerate(machine.cores) for cpu in core}
        self._on_cpu: Counter[int] = Counter()
        self._on_core: Counter[int] = Counter()
        self._of: dict[str, Cpus] = {}

    def of(self, name: str) -> Cpus:
        """The container's CPUs."""
        return self._of.get(name, _NONE)

    def add(self, name: str, cpus: Iterable[int]) -> None:
        """Give a container more CPUs."""
        new = frozenset(cpus) - self.of(name)
        self._of[name] = self.of(name) | new
        self._count(new, 1)

    def take(self, name: str, cpus: Iterable[int]) -> None:
        """Take CPUs from a container."""
        old = frozenset(cpus) & self.of(name)
        self._of[name] = self.of(name) - old
        self._count(old, -1)

    def _count(self, cpus: Cpus, by: int) -> None:
        for cpu in cpus:
            self._on_cpu[cpu] += by
            self._on_core[self._core_of[cpu]] += by

    def resize(self, name: str, count: int) -> None:
        """Give a container so many CPUs: first its own, then others of their nodes, then any."""
        has = self.of(name)
        if len(has) > count:
            self.take(name, has)
            self._settle(name, self._near(has, count), count)
        elif has:
            for cpus in (self._home(name), self._machine.cpus):
                self._settle(name, cpus - self.of(name), count - len(self.of(name)))
        else:
            self._settle(name, self._near(self._machine.cpus, count), count)

    def eased(self, name: str) -> bool:
        """Move a container to better CPUs if that is worth it. Whether it was moved."""
        moved = self._exchanged(name)
        return self._moved_away(name) or moved

    def _exchanged(self, name: str) -> bool:
        """Exchange single CPUs within its nodes."""
        home, moved = self._home(name), False
        while True:
            worst = max(self.of(name), key=lambda cpu: (self._cost(cpu), cpu))
            self.take(name, [worst])
            others = home - self.of(name) - {worst}
            best = min(others, key=lambda cpu: (self._cost(cpu), cpu), default=worst)
            better = self._cost(best) < self._cost(worst)
            self.add(name, [best if better else worst])
            if not better:
                return moved
            moved = True

    def _moved_away(self, name: str) -> bool:
        """Move the whole container to other nodes."""
        before = self.of(name)
        self.take(name, before)
        crowded, gain = self._crowd(before), WORTH_A_MOVE * len(before)
        after = before
        if crowded - sum(self._loads(self._machine.cpus)[: len(before)]) >= gain:  # there is room
            self._settle(name, self._near(self._machine.cpus, len(before)), len(before))
            after = self.of(name)
            self.take(name, after)
        better = crowded - self._crowd(after) >= gain
        self.add(name, after if better else before)
        return better

    def _settle(self, name: str, among: Cpus, count: int) -> None:
        """Give a container so many of these CPUs, one after the other, the emptiest first."""
        free = set(among)
        for _ in range(min(count, len(free))):
            best = min(free, key=lambda cpu: (self._cost(cpu), cpu))
            free.remove(best)
            self.add(name, [best])

    def _near(self, among: Cpus, count: int) -> Cpus:
        """At least so many of these CPUs, within as few sockets, and then nodes, as possible."""
        for groups in (self._machine.sockets, self._machine.nodes):
            inside = [group & among for group in groups if group & among]
            if among <= _NONE.union(*inside):
                among = self._fewest(inside, count)
        return among

    def _fewest(self, groups: Sequence[Cpus], count: int) -> Cpus:
        """The CPUs of as few groups as hold so many, preferring the emptiest groups."""
        rest, chosen = list(groups), _NONE
        while rest and (missing := count - len(chosen)) > 0:
            most = min(missing, max(map(len, rest)))
            best = min((g for g in rest if len(g) >= most), key=lambda g: self._room(g, most))
            rest.remove(best)
            chosen |= best
        return chosen

    def _room(self, group: Cpus, count: int) -> tuple[float, ...]:
        """How full a group would be with so many more: on the CPUs that they would get, then on
        all."""
        loads = self._loads(group)
        return (sum(loads[:count]), sum(loads) / len(loads), min(group))

    def _home(self, name: str) -> Cpus:
        """All CPUs of the nodes in which the container has any."""
        has = self.of(name)
        return has.union(*(node for node in self._machine.nodes if node & has))

    def _cost(self, cpu: int) -> Cost:
        return (self._on_cpu[cpu], self._on_core[self._core_of[cpu]])

    def _loads(self, cpus: Cpus) -> list[int]:
        """How many containers are on each CPU, the emptiest first."""
        return sorted(self._on_cpu[cpu] for cpu in cpus)

    def _crowd(self, cpus: Cpus) -> int:
        return sum(self._on_cpu[cpu] for cpu in cpus)
