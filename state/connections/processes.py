"""Processes, as proc(5) tells of them, and their end. Standard library only."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

MOST = 1 << 20
"""Bytes that are read of one file."""
PATIENCE = 2.0
"""Seconds that what is asked to end may take."""
_PROC = Path("/proc")
_TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Process:
    """A process. A reused pid counts as another one."""

    pid: int
    parent: int
    started: int
    """In ticks since the boot."""
    name: str = field(compare=False)
    """The program's name; a user's own program may choose it freely."""

    @property
    def began(self) -> float:
        """When it was started, in seconds since 1970."""
        return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + self.started / _TICK


def everything() -> dict[int, Process]:
    """Every process, by its number."""
    pids = (int(folder.name) for folder in _PROC.iterdir() if folder.name.isdigit())
    return {pid: found for pid in pids if (found := _process(pid)) is not None}


def ancestors(pid: int, all_of_them: Mapping[int, Process]) -> Iterator[Process]:
    """The processes above one, the nearest first."""
    while (this := all_of_them.get(pid)) and (above := all_of_them.get(this.parent)):
        yield above
        pid = above.pid


def uid_of(pid: int) -> int:
    """The one uid of a process; -1 if it has several. OSError if it is gone."""
    status = (_PROC / str(pid) / "status").read_text(encoding="ascii", errors="replace")
    uids = {int(uid) for uid in status.partition("\nUid:")[2].partition("\n")[0].split()}
    return uids.pop() if len(uids) == 1 else -1


def environment_of(pid: int) -> dict[str, str]:
    """With which environment its program was started. OSError if it is gone, or another's."""
    return dict(word.split("=", 1) for word in _words(pid, "environ") if "=" in word)


def command_line_of(pid: int) -> str:
    """Its words, with blanks between them; empty for what has ended. OSError if it is gone."""
    return " ".join(_words(pid, "cmdline")).strip()


def is_outside_containers(pid: int) -> bool:
    """Whether it runs outside containers. OSError if it is gone, or if we may not look."""
    here, there = _PROC / "self/ns", _PROC / str(pid) / "ns"
    return all((there / n).readlink() == (here / n).readlink() for n in ("user", "pid"))


def program_of(pid: int) -> str:
    """The name of its executable, also if that was upgraded.

    OSError as for `is_outside_containers`.
    """
    return (_PROC / str(pid) / "exe").readlink().name.removesuffix(" (deleted)")


def end(asked: Sequence[Process], then: Sequence[Process]) -> None:
    """Ask `asked` to end, which should also end `then`; kill what is left of both."""
    with ExitStack() as held:
        first = [one for p in asked if (one := _held(p, held)) is not None]
        second = [one for p in then if (one := _held(p, held)) is not None]
        _signal(first, signal.SIGTERM)
        _wait_for([*first, *second])
        _signal([*first, *second], signal.SIGKILL)
        _wait_for(first)


def _held(process: Process, held: ExitStack) -> int | None:
    """A descriptor of this very process (pidfd_open(2)); None: it is gone."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except OSError:
        return None
    held.callback(os.close, descriptor)
    now = _process(process.pid)
    return descriptor if now is not None and now.started == process.started else None


def _signal(descriptors: Sequence[int], number: signal.Signals) -> None:
    for descriptor in descriptors:
        with suppress(OSError):  # it is gone, or root's
            signal.pidfd_send_signal(descriptor, number)


def _wait_for(descriptors: Sequence[int]) -> None:
    poll, left, deadline = select.poll(), set(descriptors), time.monotonic() + PATIENCE
    for descriptor in left:
        poll.register(descriptor, select.POLLIN)
    while left and (ready := poll.poll(1000 * max(0.0, deadline - time.monotonic()))):
        for descriptor, _ in ready:
            poll.unregister(descriptor)
            left.discard(descriptor)


def _process(pid: int) -> Process | None:
    try:
        head, _, tail = (_PROC / str(pid) / "stat").read_bytes().rpartition(b") ")
    except OSError:
        return None
    fields, name = tail.split(), head.partition(b" (")[2].decode("ascii", "replace")
    return Process(pid, int(fields[1]), int(fields[19]), name)


def _words(pid: int, file: str) -> list[str]:
    with (_PROC / str(pid) / file).open("rb") as stream:
        return stream.read(MOST).decode("utf-8", "surrogateescape").split("\0")
