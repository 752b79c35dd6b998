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

from state.view import View

PROC = Path("/proc")
SAMPLE = 0.2
"""Seconds over which CPU use is measured."""
_TICK = os.sysconf("SC_CLK_TCK")


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
                status = (folder / "status").read_text("utf-8", "replace")
                stat = (folder / "stat").read_text("utf-8", "replace")
                if (found := of_proc(status, stat, booted)) is not None:
                    yield found


def _booted(stat: str) -> float:
    return float(next(line.split()[1] for line in stat.splitlines() if line.startswith("btime ")))


def of_proc(status: str, stat: str, booted: float) -> Process | None:
    """The process of a /proc/PID/status and stat; None for a thread of the kernel. Pure."""
    lines = (line.partition(":") for line in status.splitlines())
    said = {name: value.split() for name, _, value in lines}
    if "VmRSS" not in said:
        return None
    # the name stands in parentheses and may hold some itself
    command, _, rest = stat.partition("(")[2].rpartition(")")
    numbers = rest.split()
    return Process(
        pid=int(said["Pid"][0]),
        uid=int(said["Uid"][1]),
        command="".join(c if c.isprintable() else "?" for c in command)[:15],
        started=booted + int(numbers[19]) / _TICK,
        cpu=(int(numbers[11]) + int(numbers[12])) / _TICK,
        memory=1024 * sum(int(said[name][0]) for name in ("RssAnon", "RssShmem") if name in said),
        ended_cpu=(int(numbers[13]) + int(numbers[14])) / _TICK,
    )


def sampled() -> Iterator[dict[int, Process]]:
    """All processes, twice: what is done between the two `next` takes no time of its own."""
    begun = time.monotonic()
    yield read()
    time.sleep(max(0.0, begun + SAMPLE - time.monotonic()))
    yield read()


def uses(
    view: View, before: Mapping[int, Process], now: Mapping[int, Process], seconds: float
) -> tuple[Use, ...]:
    """What each resident's processes use, the busiest first. Pure.

    A process that began meanwhile counts with all that it used.
    """
    by_user = dict[str, list[Process]]()
    for process in now.values():
        if (user := resident_with(view, process.uid)) is not None:
            by_user.setdefault(user, []).append(process)

    def used(process: Process) -> float:
        old = before.get(process.pid)
        return process.cpu - (old.cpu if old and old.started == process.started else 0.0)

    found = (
        Use(user, sum(map(used, own)) / seconds, sum(p.memory for p in own), len(own))
        for user, own in by_user.items()
    )
    return tuple(sorted(found, key=lambda use: (-use.cpus, -use.memory, use.user)))


def resident_with(view: View, uid: int) -> str | None:
    """The resident whose own or subordinate uid this is. Pure."""
    for name, resident in view.residents.items():
        if uid == resident.uid or 0 <= uid - resident.subid < view.subid_size:
            return name
    return None


def name_of(view: View, uid: int) -> str:
    """Whose a process with this uid is: a resident's, else an account's of the server."""
    resident = resident_with(view, uid)
    if resident is not None:
        return resident
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"
