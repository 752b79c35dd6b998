"""Reads the CPUs of this server: which share a core, a socket, a node of memory."""

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
    """The CPUs that can be shared out, in groups. Each is in at most one group of each level."""

    cores: tuple[Cpus, ...] = ()
    """Groups that share a core (SMT siblings)."""
    sockets: tuple[Cpus, ...] = ()
    nodes: tuple[Cpus, ...] = ()
    """Groups that share a node of memory (NUMA)."""

    @property
    def cpus(self) -> Cpus:
        """All CPUs."""
        return frozenset().union(*self.cores)

    def only(self, cpus: Cpus) -> Machine:
        """The machine reduced to some CPUs."""
        levels = (self.cores, self.sockets, self.nodes)
        return Machine(*(tuple(g & cpus for g in level if g & cpus) for level in levels))


def parse(text: str) -> Cpus:
    """Read a list of CPUs as the kernel writes it, e.g. `0-3,8` (cpuset(7), "List format").

    ValueError if it isn't such a list.
    """
    found: set[int] = set()
    for part in filter(None, text.strip().split(",")):
        first, dash, last = part.partition("-")
        found.update(range(int(first), int(last if dash else first) + 1))
    return frozenset(found)


def in_words(cpus: Collection[int]) -> str:
    """Write CPUs as a list like `0-3,8`."""
    return ",".join(
        f"{first}" if first == last else f"{first}-{last}" for first, last in _runs(cpus)
    )


def named(cpus: Collection[int]) -> str:
    """CPUs in a sentence: `CPU 0`, `CPUs 0-3,8`."""
    return f"CPU{'' if len(cpus) == 1 else 's'} {in_words(cpus)}"


def _runs(cpus: Collection[int]) -> Iterator[tuple[int, int]]:
    """The first and last of each run without a gap."""
    ordered = sorted(cpus)
    starts = [c for c in ordered if c - 1 not in cpus]
    ends = [c for c in ordered if c + 1 not in cpus]
    return zip(starts, ends, strict=True)


def read(system: Path = SYSTEM) -> Machine:
    """The CPUs that are online and not isolated from the scheduler.

    Isolated CPUs (`isolcpus=`) are left out: the scheduler never moves a program from one of them
    to another. Linux documents the files in Documentation/admin-guide/cputopology.rst; one CPU of
    each group is read. ValueError or OSError if they can't be understood.
    """
    folder = system / "cpu"
    online = parse((folder / "online").read_text()) - parse(read_text(folder / "isolated") or "")
    nodes = [parse(path.read_text()) & online for path in _nodes(system)]
    return Machine(
        cores=_groups(folder, online, "thread_siblings_list"),
        sockets=_groups(folder, online, "core_siblings_list"),
        nodes=tuple(filter(None, nodes)) or (online,),  # there are none: a kernel without NUMA
    )


def _nodes(system: Path) -> list[Path]:
    """The CPUs of the memory nodes, in the order of the nodes' numbers."""
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
