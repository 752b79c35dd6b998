"""All processes, looked at again and again for little.

A look reads one text for each process, from a descriptor that stays open: that is half the price,
and a pid that went to somebody else is noticed, for the old descriptor then gives an error. Where
the text is the same as last time, nothing happened, and nothing more is done. Owner and memory are
read again where memory came or went, and for all in turn: a program can change its owner unnoticed.
Threads of the kernel, of which there are thousands, are known by the inode of their folder.
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
"""In so many looks, owner and memory of everything have been read."""
YOUNG = 2
"""So many looks long, they are read each time: a login changes its owner when it begins."""
_MOST_OPEN = 60_000
_SPARE = 200
"""Descriptors for everything else."""
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
    """It is no zombie."""


@dataclass(slots=True)
class _Tracked:
    inode: int
    descriptor: int
    """Of its stat; -1: not kept open."""
    raw: bytes = b""
    resident: int = 0
    looks: int = 0
    seen: ProcessSample | None = None
    """None: it is the kernel's."""


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
        """Everything that runs now but the kernel's own. Who ends meanwhile is left out."""
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
        """Nothing will be looked at any more."""
        for known in self._known.values():
            self._forget(known)
        self._known = {}
        os.close(self._folder)

    def _there(self) -> list[tuple[str, int]]:
        with os.scandir(self._proc) as folder:
            return [(each.name, each.inode()) for each in folder if each.name.isdigit()]

    def _again(self, name: str, inode: int, known: _Tracked) -> bool:
        """Look at one that was there; False: it has ended, and the pid may be another's."""
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
        """One that wasn't there; None: nor is it now."""
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
    """The same program, which has as much memory as before."""
    return seen._replace(
        parent=stat.parent, spent=stat.spent, reaped=stat.reaped, runs=not stat.zombie
    )


def _room_for_descriptors() -> int:
    """How many may stay open, once the limit is where we may put it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_OPEN if hard == resource.RLIM_INFINITY else min(hard, _MOST_OPEN)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
    return max(0, min(soft if soft != resource.RLIM_INFINITY else wanted, wanted) - _SPARE)
