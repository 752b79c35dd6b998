"""Measures what each user's processes use; a subordinate uid belongs to its user.

Read from /proc (proc(5)), which is the same with every kind of control groups.
"""

from __future__ import annotations

import os
import pwd
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from reconciler.load.owners import Owners
from state.words import printable

PROC = Path("/proc")
SAMPLE = 0.2
"""Seconds over which CPU use is measured."""
TICK = os.sysconf("SC_CLK_TCK")
"""Ticks a second: the unit of CPU times in /proc."""
PATIENCE = 1.0
"""Seconds of a look in which owners and memory are read in full."""
_PAGE = os.sysconf("SC_PAGE_SIZE")
_USUAL = 4096
_LONGEST = 1 << 20
_KERNEL_THREAD = 0x0020_0000
"""PF_KTHREAD, of linux/sched.h."""


@dataclass(frozen=True)
class ProcessUsage:
    """One process on this server."""

    pid: int
    uid: int
    command: str
    """Its short name, up to 15 letters. The process chooses it."""
    started: float
    """Seconds since the epoch."""
    cpu: float
    """Seconds of CPU time that it has used."""
    memory: int
    """Bytes that it holds: its own and shared memory, not files that are cached."""
    ended_cpu: float = 0.0
    """Seconds of CPU time of its ended children, and of theirs."""


@dataclass(frozen=True)
class UserUsage:
    """What one person's processes use together."""

    user: str
    cpus: float
    """How many CPUs were busy for them; 1.0 is one."""
    memory: int
    """Bytes. Memory that several processes share counts for each of them."""
    processes: int


class Statuses:
    """Reads owner and memory of processes: in full, and after `seconds` in short.

    A user whose programs have 65,536 groups makes the kernel list them all for each program: that
    takes 20 ms, and there may be thousands.
    """

    def __init__(self, seconds: float = PATIENCE) -> None:
        self._left = seconds

    def read(self, folder: int, pid: str) -> tuple[int, int | None]:
        """uid and bytes of memory of a process; None: it has none. `folder`: the open /proc."""
        begun = time.monotonic()
        if self._left <= 0:
            return _in_short(folder, pid)
        found = of_status(text(folder, f"{pid}/status"))
        self._left -= time.monotonic() - begun
        return found


def _in_short(folder: int, pid: str) -> tuple[int, int | None]:
    """uid and memory, read faster and less exactly (proc(5)).

    Shared memory is left out. A program that nobody may trace counts as root's, in a container as
    that of its root.
    """
    _, resident, shared, *_ = map(int, text(folder, f"{pid}/statm").split())
    uid = os.stat(pid, dir_fd=folder).st_uid
    return uid, (resident - shared) * _PAGE if resident else None


def text(folder: int, path: str) -> bytes:
    """The content of the file `path` below /proc, which is open as `folder`."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder)
    try:
        raw = os.read(descriptor, _USUAL)
        if len(raw) == _USUAL:  # it is long because it lists groups
            raw += os.read(descriptor, _LONGEST)
        return raw
    finally:
        os.close(descriptor)


def read(proc: Path = PROC) -> dict[int, ProcessUsage]:
    """All processes by pid, without the kernel's threads and those that end meanwhile."""
    booted = _booted((proc / "stat").read_text())
    folder = os.open(proc, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return {each.pid: each for each in _each(folder, booted)}
    finally:
        os.close(folder)


def _each(folder: int, booted: float) -> Iterator[ProcessUsage]:
    statuses = Statuses()
    for pid in filter(str.isdigit, os.listdir(folder)):
        with suppress(FileNotFoundError, ProcessLookupError):
            uid, memory = statuses.read(folder, pid)
            if memory is not None:
                yield of_proc(int(pid), uid, memory, text(folder, f"{pid}/stat"), booted)


def _booted(stat: str) -> float:
    return float(next(line.split()[1] for line in stat.splitlines() if line.startswith("btime ")))


class Stat(NamedTuple):
    """The fields of /proc/PID/stat; CPU times in ticks."""

    command: str
    kernel: bool
    """Whether it is a thread of the kernel."""
    zombie: bool
    """Whether it has ended, and its parent hasn't waited for it."""
    parent: int
    spent: int
    """CPU time of its own."""
    reaped: int
    """CPU time of children that have ended, and of theirs."""
    started: int
    """Ticks after boot."""
    resident: int
    """Pages of memory, those of files included."""


def of_stat(raw: bytes) -> Stat:
    """The fields of a /proc/PID/stat. ValueError or IndexError if it isn't one. Pure."""
    # the name stands in parentheses, and may itself contain parentheses, blanks and line breaks
    begin, end = raw.index(b"("), raw.rindex(b")")
    fields = raw[end + 2 :].split(None, 22)
    name = raw[begin + 1 : end].decode("utf-8", "replace")
    return Stat(
        printable(name, "?")[:15],
        bool(int(fields[6]) & _KERNEL_THREAD),
        fields[0] in b"ZX",
        int(fields[1]),
        int(fields[11]) + int(fields[12]),
        int(fields[13]) + int(fields[14]),
        int(fields[19]),
        int(fields[21]),
    )


def of_status(raw: bytes) -> tuple[int, int | None]:
    """uid and memory in bytes of a /proc/PID/status; None: it has no memory (any more). Pure."""
    uid, memory, held = -1, 0, False
    for line in raw.split(b"\n"):  # a name can't break a line here: the kernel escapes it
        name, _, value = line.partition(b":")
        if name == b"Uid":
            uid = int(value.split()[1])
        elif name == b"VmRSS":
            held = True
        elif name in (b"RssAnon", b"RssShmem"):
            memory += 1024 * int(value.split()[0])
    return uid, memory if held else None


def of_proc(pid: int, uid: int, memory: int, stat: bytes, booted: float) -> ProcessUsage:
    """The process of a /proc/PID/stat. Pure."""
    said = of_stat(stat)
    started = booted + said.started / TICK
    spent, reaped = said.spent / TICK, said.reaped / TICK
    return ProcessUsage(pid, uid, said.command, started, spent, memory, reaped)


def sampled() -> Iterator[dict[int, ProcessUsage]]:
    """All processes, twice, SAMPLE seconds apart. The caller can work between the two `next`."""
    begun = time.monotonic()
    yield read()
    time.sleep(max(0.0, begun + SAMPLE - time.monotonic()))
    yield read()


def uses(
    owners: Owners,
    before: Mapping[int, ProcessUsage],
    now: Mapping[int, ProcessUsage],
    seconds: float,
) -> tuple[UserUsage, ...]:
    """What each resident's processes use, the busiest first. Pure.

    A process that began between the two looks counts with all its CPU time.
    """
    by_user = dict[str, list[ProcessUsage]]()
    for process in now.values():
        if (user := owners.of(process.uid)) is not None:
            by_user.setdefault(user, []).append(process)

    def used(process: ProcessUsage) -> float:
        old = before.get(process.pid)
        return process.cpu - (old.cpu if old and old.started == process.started else 0.0)

    found = (
        UserUsage(user, sum(map(used, own)) / seconds, sum(p.memory for p in own), len(own))
        for user, own in by_user.items()
    )
    return tuple(sorted(found, key=lambda use: (-use.cpus, -use.memory, use.user)))


def name_of(owners: Owners, uid: int) -> str:
    """The name of a uid's owner: a resident, else an account of the server."""
    resident = owners.of(uid)
    if resident is not None:
        return resident
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"
