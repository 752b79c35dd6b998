"""The CPUs of this server: which share a core, a socket, a node of memory."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from state.files import read_text

Cpus = frozenset[int]
"""CPUs by their numbers, as the kernel counts them: hyper-threads."""
SYSTEM = Path("/sys/devices/system")


@dataclass(frozen=True)
class Machine:
    """CPUs that may be shared out, in groups; each is in one group of each level at most."""

    cores: tuple[Cpus, ...] = ()
    """Those that share a core (SMT siblings)."""
    sockets: tuple[Cpus, ...] = ()
    nodes: tuple[Cpus, ...] = ()
    """Those that share a node of memory (NUMA)."""

    @property
    def cpus(self) -> Cpus:
        """All of them."""
        return frozenset().union(*self.cores)

    def only(self, cpus: Cpus) -> Machine:
        """The same machine without all other CPUs."""
        levels = (self.cores, self.sockets, self.nodes)
        return Machine(*(tuple(g & cpus for g in level if g & cpus) for level in levels))


def parse(text: str) -> Cpus:
    """CPUs out of the kernel's words for a list, e.g. `0-3,8` (cpuset(7), "List format").

    ValueError if it isn't one.
    """
    found: set[int] = set()
    for part in filter(None, text.strip().split(",")):
        first, dash, last = part.partition("-")
        found.update(range(int(first), int(last if dash else first) + 1))
    return frozenset(found)


def in_words(cpus: Collection[int]) -> str:
    """CPUs as such a list."""
    return ",".join(
        f"{first}" if first == last else f"{first}-{last}" for first, last in _runs(cpus)
    )


def _runs(cpus: Collection[int]) -> Iterator[tuple[int, int]]:
    """First and last of those without a gap between them."""
    ordered = sorted(cpus)
    starts = [c for c in ordered if c - 1 not in cpus]
    ends = [c for c in ordered if c + 1 not in cpus]
    return zip(starts, ends, strict=True)


def read(system: Path = SYSTEM) -> Machine:
    """The CPUs that are online and that the scheduler uses by itself.

    Those that a sysadmin took out of its hands (`isolcpus=`) are nobody's: whatever is put on
    them is never moved to another one. What is where stands in
    Documentation/admin-guide/cputopology.rst of Linux; of each group one CPU is asked.
    ValueError or OSError if it can't be understood.
    """
    folder = system / "cpu"
    online = parse((folder / "online").read_text()) - parse(read_text(folder / "isolated") or "")
    nodes = [parse(path.read_text()) & online for path in _nodes(system)]
    return Machine(
        cores=_groups(folder, online, "thread_siblings_list"),
        sockets=_groups(folder, online, "core_siblings_list"),
        nodes=tuple(filter(None, nodes)) or (online,),  # none: a kernel without NUMA
    )


def _nodes(system: Path) -> list[Path]:
    """Their lists, in the order of their numbers."""
    found = {
        int(path.parent.name[4:]): path
        for path in (system / "node").glob("node*/cpulist")
        if re.fullmatch(r"node[0-9]+", path.parent.name)
    }
    return [found[number] for number in sorted(found)]


def _groups(folder: Path, online: Cpus, name: str) -> tuple[Cpus, ...]:
    groups: list[Cpus] = []
    rest = set(online)
    for cpu in sorted(online):
        if cpu in rest:
            text = read_text(folder / f"cpu{cpu}" / "topology" / name)
            groups.append((parse(text or "") | {cpu}) & frozenset(rest))
            rest -= groups[-1]
    return tuple(groups)
