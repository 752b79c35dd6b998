"""Computes rates of disks and network interfaces from the kernel's counters."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from state.wire.server_load import MOST_DISKS, MOST_INTERFACES, DiskRate, NetworkRate

BLOCK = Path("/sys/block")
NET = Path("/sys/class/net")
_PATH_OF_NVME = re.compile(r"nvme\d+c\d+n\d+", re.ASCII)
"""A path to a multipath disk, which is listed itself, too."""
Pairs = Mapping[str, tuple[int, int]]


@dataclass(frozen=True)
class Counters:
    """Bytes that disks and interfaces had carried at one moment: read and written, in and out."""

    disks: Pairs
    network: Pairs


class Chosen:
    """The disks and interfaces that count. sysfs is asked once for each name."""

    def __init__(self, block: Path = BLOCK, net: Path = NET) -> None:
        self._disk = dict[str, bool]()
        self._link = dict[str, bool]()
        self._block, self._net = block, net

    def counters(self) -> Counters:
        """The bytes that they have carried until now."""
        disks = psutil.disk_io_counters(perdisk=True, nowrap=False)
        links = psutil.net_io_counters(pernic=True, nowrap=False)
        mine = _among(disks, self._disk, lambda names: whole_disks(names, self._block))
        real = _among(links, self._link, lambda names: to_the_world(names, self._net))
        return Counters(
            {name: (disks[name].read_bytes, disks[name].write_bytes) for name in mine},
            {name: (links[name].bytes_recv, links[name].bytes_sent) for name in real},
        )


def _among(
    names: Iterable[str], known: dict[str, bool], choose: Callable[[list[str]], set[str]]
) -> list[str]:
    """Those that count. All are looked at again if a name came or went."""
    there = list(names)
    if known.keys() != set(there):
        chosen = choose(there)
        known.clear()
        known.update((name, name in chosen) for name in there)
    return [name for name in there if known[name]]


def whole_disks(names: Iterable[str], block: Path = BLOCK) -> set[str]:
    """Physical disks: no partitions, loop devices or RAM disks, and no RAID or LVM devices.

    sysfs names a device behind each physical disk, and doesn't list partitions (sysfs(5)).
    """
    return {
        name
        for name in names
        if (block / name / "device").exists() and not _PATH_OF_NVME.fullmatch(name)
    }


def to_the_world(names: Iterable[str], net: Path = NET) -> set[str]:
    """Network cards. Where there are none, as in a container: all but bridges and their ports."""
    there = set(names) - {"lo"}
    cards = {name for name in there if (net / name / "device").exists()}
    return cards or {
        name
        for name in there
        if not any((net / name / what).exists() for what in ("bridge", "brport", "master"))
    }


def disk_rates(before: Pairs, now: Pairs, seconds: float) -> tuple[DiskRate, ...]:
    """Bytes a second of disks that were there both times. Pure."""
    return tuple(DiskRate(*each) for each in _rates(before, now, seconds)[:MOST_DISKS])


def network_rates(before: Pairs, now: Pairs, seconds: float) -> tuple[NetworkRate, ...]:
    """Bytes a second of interfaces that were there both times. Pure."""
    return tuple(NetworkRate(*each) for each in _rates(before, now, seconds)[:MOST_INTERFACES])


def _rates(before: Pairs, now: Pairs, seconds: float) -> list[tuple[str, float, float]]:
    """Bytes a second; 0 for a counter that began again (replugged, overflow)."""
    return [
        (
            name,
            round(max(0, there - before[name][0]) / seconds, 1),
            round(max(0, back - before[name][1]) / seconds, 1),
        )
        for name, (there, back) in sorted(now.items())
        if name in before
    ]
