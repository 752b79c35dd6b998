"""Reads all processes again and again, cheaply.

A look reads /proc/PID/stat of each process, from a descriptor that stays open. That takes half the
time, and shows when a pid was reused: the old descriptor then gives an error. If the text is the
same as last time, nothing more is read. Owner and memory are read again when the memory changed,
and of every process in turn, because a program can change its owner unnoticed. Threads of the
kernel, of which there are thousands, are recognised by the inode of their folder.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from reconciler.load.processes import PROC, Stat, Statuses, of_stat, text

IN_TURN = 12
"""Looks within which owner and memory of every process are read again."""
YOUNG = 2
"""Looks at a new process that read them each time: a login changes its owner when it begins."""
_MOST_OPEN = 60_000
_SPARE = 200
"""Descriptors that are left for everything else."""
_LONGEST = 4096


class ProcessSample(NamedTuple):
    """One process at one moment. CPU times in ticks, memory in bytes."""

    parent: int
    started: int
    spent: int
    """CPU time of its own."""
    reaped: int
    """CPU time of its children that have ended, and of theirs."""
    uid: int
    memory: int
    runs: bool
    """Whether it runs: it is not a zombie."""


@dataclass(slots=True)
class _Tracked:
    inode: int
    descriptor: int
    """The open /proc/PID/stat; -1: not kept open."""
    raw: bytes = b""
    resident: int = 0
    looks: int = 0
    seen: ProcessSample | None = None
    """None: it is a thread of the kernel."""


class ProcessTable:
    """The processes of this machine."""

    def __init__(self, proc: Path = PROC) -> None:
        self._proc = str(proc)
        self._folder = os.open(proc, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._known = dict[str, _Tracked]()
        self._open = 0
        self._most_open = _room_for_descriptors()
        self._looks = 0
        self._statuses = Statuses()

    def look(self) -> Mapping[int, ProcessSample]:
        """All processes that run now, without the kernel's threads and those that end meanwhile."""
        self._looks += 1
        self._statuses = Statuses()
        before, self._known = self._known, {}
        for name, inode in self._there():
            known = before.pop(name, None)
            if known is None or not self._again(name, inode, known):
                if known is not None:
                    self._forget(known)
                known = self._first(name, inode)
            if known is not None:
                self._known[name] = known
        for gone in before.values():
            self._forget(gone)
        return {int(name): known.seen for name, known in self._known.items() if known.seen}

    def close(self) -> None:
        """Close all descriptors."""
        for known in self._known.values():
            self._forget(known)
        self._known = {}
        os.close(self._folder)

    def _there(self) -> list[tuple[str, int]]:
        with os.scandir(self._proc) as folder:
            return [(each.name, each.inode()) for each in folder if each.name.isdigit()]

    def _again(self, name: str, inode: int, known: _Tracked) -> bool:
        """Look at a known process again; False: it has ended, and its pid may be reused."""
        if known.seen is None:
            return known.inode == inode
        try:
            if known.descriptor < 0:
                raw = text(self._folder, f"{name}/stat")
            else:
                raw = os.pread(known.descriptor, _LONGEST, 0)
            known.looks += 1
            in_turn = known.looks <= YOUNG or (self._looks + inode) % IN_TURN == 0
            if raw == known.raw and not in_turn:
                return True
            stat = of_stat(raw)
            if stat.started != known.seen.started:
                return False
            same = stat.resident == known.resident and not in_turn
            known.seen = _moved(known.seen, stat) if same else self._seen(name, stat)
            known.raw, known.resident = raw, stat.resident
        except (OSError, ValueError, IndexError):
            return False
        return True

    def _first(self, name: str, inode: int) -> _Tracked | None:
        """Look at a new process; None: it has ended already."""
        descriptor = -1
        try:
            descriptor = os.open(f"{name}/stat", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._folder)
            raw = os.pread(descriptor, _LONGEST, 0)
            stat = of_stat(raw)
            if stat.kernel:
                os.close(descriptor)
                return _Tracked(inode, -1)
            known = _Tracked(inode, descriptor, raw, stat.resident, 0, self._seen(name, stat))
        except (OSError, ValueError, IndexError):
            if descriptor >= 0:
                os.close(descriptor)
            return None
        if self._open < self._most_open:
            self._open += 1
        else:
            os.close(descriptor)
            known.descriptor = -1
        return known

    def _seen(self, name: str, stat: Stat) -> ProcessSample:
        uid, memory = self._statuses.read(self._folder, name)
        return ProcessSample(
            stat.parent, stat.started, stat.spent, stat.reaped, uid, memory or 0, not stat.zombie
        )

    def _forget(self, known: _Tracked) -> None:
        if known.descriptor >= 0:
            os.close(known.descriptor)
            known.descriptor = -1
            self._open -= 1


def _moved(seen: ProcessSample, stat: Stat) -> ProcessSample:
    """The sample of a process whose memory, and so its owner, is as before."""
    return seen._replace(
        parent=stat.parent, spent=stat.spent, reaped=stat.reaped, runs=not stat.zombie
    )


def _room_for_descriptors() -> int:
    """How many descriptors may stay open, after raising the limit as far as allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_OPEN if hard == resource.RLIM_INFINITY else min(hard, _MOST_OPEN)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
    return max(0, min(soft if soft != resource.RLIM_INFINITY else wanted, wanted) - _SPARE)
