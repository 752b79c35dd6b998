"""Whose processes use how much of this server: a subordinate uid names its user.

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

from reconciler.owners import Owners

PROC = Path("/proc")
SAMPLE = 0.2
"""Seconds over which CPU use is measured."""
TICK = os.sysconf("SC_CLK_TCK")
"""Of these, a second has so many: the unit of CPU times in /proc."""
_KERNEL_THREAD = 0x0020_0000
"""PF_KTHREAD, of linux/sched.h."""


@dataclass(frozen=True)
class Process:
    """One process, of anybody."""

    pid: int
    uid: int
    command: str
    """Its short name: up to 15 letters, chosen by itself."""
    started: float
    """Seconds since the epoch."""
    cpu: float
    """Seconds of CPU time that it has used."""
    memory: int
    """Bytes that it holds: its own and shared memory, not files that are cached."""
    ended_cpu: float = 0.0
    """Seconds of CPU time that its children used which ended, with theirs."""


@dataclass(frozen=True)
class Use:
    """What one person's processes use together."""

    user: str
    cpus: float
    """How many CPUs were busy for them; 1.0 is one."""
    memory: int
    """Bytes; what several processes share counts for each."""
    processes: int


def read(proc: Path = PROC) -> dict[int, Process]:
    """All processes but the kernel's own, by their ids. Who ends meanwhile is left out."""
    booted = _booted((proc / "stat").read_text())
    return {each.pid: each for each in _each(proc, booted)}


def _each(proc: Path, booted: float) -> Iterator[Process]:
    for folder in proc.iterdir():
        if folder.name.isdigit():
            with suppress(FileNotFoundError, ProcessLookupError):
                texts = (folder / "status").read_bytes(), (folder / "stat").read_bytes()
                if (found := of_proc(int(folder.name), *texts, booted)) is not None:
                    yield found


def _booted(stat: str) -> float:
    return float(next(line.split()[1] for line in stat.splitlines() if line.startswith("btime ")))


class Stat(NamedTuple):
    """What /proc/PID/stat says; CPU times in ticks."""

    command: str
    kernel: bool
    """It is a thread of the kernel's own."""
    zombie: bool
    """It has ended, and its parent hasn't asked for it."""
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
    """What a /proc/PID/stat says. ValueError, IndexError if it isn't one. Pure."""
    # the name stands in parentheses and may hold some itself, and anything else
    begin, end = raw.index(b"("), raw.rindex(b")")
    fields = raw[end + 2 :].split(None, 22)
    name = raw[begin + 1 : end].decode("utf-8", "replace")
    return Stat(
        "".join(c if c.isprintable() else "?" for c in name)[:15],
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


def of_proc(pid: int, status: bytes, stat: bytes, booted: float) -> Process | None:
    """The process of a /proc/PID/status and stat; None for what has no memory. Pure."""
    uid, memory = of_status(status)
    if memory is None:
        return None
    said = of_stat(stat)
    started = booted + said.started / TICK
    spent, reaped = said.spent / TICK, said.reaped / TICK
    return Process(pid, uid, said.command, started, spent, memory, reaped)


def sampled() -> Iterator[dict[int, Process]]:
    """All processes, twice: what is done between the two `next` takes no time of its own."""
    begun = time.monotonic()
    yield read()
    time.sleep(max(0.0, begun + SAMPLE - time.monotonic()))
    yield read()


def uses(
    owners: Owners, before: Mapping[int, Process], now: Mapping[int, Process], seconds: float
) -> tuple[Use, ...]:
    """What each resident's processes use, the busiest first. Pure.

    A process that began meanwhile counts with all that it used.
    """
    by_user = dict[str, list[Process]]()
    for process in now.values():
        if (user := owners.of(process.uid)) is not None:
            by_user.setdefault(user, []).append(process)

    def used(process: Process) -> float:
        old = before.get(process.pid)
        return process.cpu - (old.cpu if old and old.started == process.started else 0.0)

    found = (
        Use(user, sum(map(used, own)) / seconds, sum(p.memory for p in own), len(own))
        for user, own in by_user.items()
    )
    return tuple(sorted(found, key=lambda use: (-use.cpus, -use.memory, use.user)))


def name_of(owners: Owners, uid: int) -> str:
    """Whose a process with this uid is: a resident's, else an account's of the server."""
    resident = owners.of(uid)
    if resident is not None:
        return resident
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"
