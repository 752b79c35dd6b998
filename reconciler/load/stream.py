"""Writes a line every few seconds, until nobody reads or an hour has passed.

The page asks again after that hour. Nothing that hangs may stop the stream: only files of /proc and
/sys that the kernel answers itself are read here; children ask for everything else.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from types import MappingProxyType

from reconciler.children.answering import like_this
from reconciler.host.boot import boot_clock
from reconciler.load import by_user, machine, rates
from reconciler.load.by_user import Looked
from reconciler.load.file_systems import FileSystems
from reconciler.load.gpus import GpuSampler, loads, uid_of
from reconciler.load.idle_stop import stopped_containers
from reconciler.load.idleness import idle_containers
from reconciler.load.machine import CpuSensors, CpuTimes
from reconciler.load.names import Names
from reconciler.load.process_table import ProcessTable
from reconciler.load.rates import Chosen, Counters
from reconciler.notices import store as kept_notices
from reconciler.reservations import book_file, use_record
from reconciler.reservations.book import Book
from reconciler.reservations.watching import ReservationUse, UseRecord
from state.errors import LxcGpuError, Remedy
from state.view import View
from state.wire.server_load import (
    INTERVAL,
    MOST_INTRUDERS,
    MOST_RESERVATIONS,
    SYSTEM,
    IdleContainer,
    ReservedGpus,
    ServerLoad,
    encode,
)

LONGEST = 3600.0
"""Seconds that a stream lasts, so that none is left over forever, and an upgrade takes effect."""
FIRST = 1.0
"""Seconds over which the first line measures."""
ASIDE = 0.3
"""Seconds that a line waits for children's answers."""
MOST_STREAMS = 10
"""Streams at a time. A page needs one, and those that it lost end within minutes. Somebody with its
key could start thousands, each with the memory of a Python process."""
FORTNIGHT = 14 * 86400.0
"""Seconds ahead for which reservations are told."""
STALLED = 60.0
"""Seconds after which a reader that takes no byte is given up."""


@dataclass(frozen=True)
class _Look:
    """All counters at one moment."""

    at: float
    cpu: CpuTimes
    processes: Looked
    counters: Counters


class Sampler:
    """Makes a load of what the server did from one look to the next."""

    def __init__(self, server: str, interval: float = INTERVAL) -> None:
        self._server, self._interval = server, interval
        self._names, self._file_systems = Names(), FileSystems()
        self._gpus, self._idle, self._reserved = GpuSampler(), IdleReader(), ReservationsReader()
        self._notices = kept_notices.Reader()
        self._table, self._chosen, self._sensors = ProcessTable(), Chosen(), CpuSensors()
        self._before = self._look()
        self._gpus.ask()

    def load(self) -> ServerLoad:
        """What happened since the last look, or since the beginning."""
        self._gpus.ask()
        before, now = self._before, self._look()
        self._before = now
        seconds = max(1e-3, now.at - before.at)
        cpus = os.cpu_count() or 1
        busy = now.cpu.busy - before.cpu.busy
        self._names.refresh()
        users = by_user.uses(before.processes, now.processes, seconds, busy, self._names)
        file_systems = self._file_systems.step(ASIDE)
        gpus = self._gpus.view(ASIDE)
        return ServerLoad(
            server=self._server,
            at=round(time.time(), 3),
            interval=self._interval,
            cpu=machine.cpu_load(before.cpu, now.cpu, cpus, self._sensors.hottest()),
            memory=machine.memory_load(),
            driver=gpus.driver,
            gpus=loads(gpus.gpus, lambda pid: self._owner(pid, now.processes)),
            gpu_problem=gpus.problem,
            file_systems=file_systems,
            disks=rates.disk_rates(before.counters.disks, now.counters.disks, seconds),
            network=rates.network_rates(before.counters.network, now.counters.network, seconds),
            users=users,
            idle=self._idle.containers(self._names.view),
            stopped_idle=self._idle.stopped,
            reservations=self._reserved.soon(self._names.view, time.time()),
            notices=self._notices.notices(),
        )

    def close(self) -> None:
        """End all children."""
        self._names.close()
        self._file_systems.close()
        self._gpus.close()

    def _owner(self, pid: int, processes: Looked) -> str:
        """The owner of a program on a GPU; SYSTEM of one that has ended but holds memory."""
        process = processes.get(pid)
        uid = process.uid if process else uid_of(pid)
        return SYSTEM if uid is None else self._names(uid)

    def _look(self) -> _Look:
        processes = self._table.look()
        return _Look(time.monotonic(), machine.cpu_times(), processes, self._chosen.counters())


class IdleReader:
    """The idle containers, read again each minute: idleness counts in days."""

    def __init__(self) -> None:
        self._due = 0.0
        self._found: tuple[IdleContainer, ...] = ()
        self.stopped: tuple[IdleContainer, ...] = ()
        """The containers that were stopped as idle, when `containers` last looked."""

    def containers(self, view: View | None) -> tuple[IdleContainer, ...]:
        """The idle containers, by this view's policy."""
        if view is not None and time.monotonic() >= self._due:
            self._due = time.monotonic() + 60
            self._found = idle_containers(view, time.time())
            self.stopped = stopped_containers(view)
        return self._found


class ReservationsReader:
    """The reservations and their use; each file is read again only after it was written."""

    def __init__(self) -> None:
        self._changed: object = ()
        self._read = 0.0
        self._book = Book()
        self._looked: object = ()
        self._record = UseRecord()

    def soon(self, view: View | None, now: float) -> tuple[ReservedGpus, ...]:
        """The reservations of a fortnight; none while the book is damaged, which the doctor
        reports."""
        changed = book_file.changed()
        if changed != self._changed or now < self._read:  # the clock went back: others are ahead
            self._changed, self._read, self._book = changed, now, Book()
            with suppress(LxcGpuError):
                self._book = book_file.read_open(now)
        looked = use_record.changed()
        if looked != self._looked:
            self._looked, self._record = looked, use_record.read_record()
        return on_the_wire(self._book, view, now, use_record.of_now(self._record, boot_clock()))


def on_the_wire(
    book: Book,
    view: View | None,
    now: float,
    found: Mapping[str, ReservationUse] = MappingProxyType({}),
) -> tuple[ReservedGpus, ...]:
    """Residents' reservations of the next fortnight, as the load tells them. Pure.

    `found`: what the last look saw of their use.
    """
    residents = view.residents if view else {}
    soon = (each for each in book.ahead(now) if each.begins < now + FORTNIGHT)
    return tuple(
        ReservedGpus(
            each.id,
            each.user,
            each.gpus,
            each.begins,
            each.ends,
            use_record.unused_since(found.get(each.id), now),
            _intruders(found.get(each.id)),
        )
        for each in soon
        if each.user in residents
    )[:MOST_RESERVATIONS]


def _intruders(found: ReservationUse | None) -> tuple[str, ...]:
    return tuple(sorted(found.intruders))[:MOST_INTRUDERS] if found else ()


def only_so_many(most: int = MOST_STREAMS) -> None:
    """LxcGpuError if this account runs more than `most` of this program."""
    if like_this() > most:
        raise LxcGpuError(
            "load-crowded",
            f"{most} programs read this server's load already, and no more are allowed.",
            "Streams without a reader end within minutes; `ss -tnp` shows where the others come "
            "from.",
            Remedy.WAIT,
        )


def stream(
    descriptor: int, server: str, *, interval: float = INTERVAL, longest: float = LONGEST
) -> None:
    """Write a line to `descriptor` every `interval` seconds, until nobody reads.

    `server`: this server's name in the state.
    """
    with ExitStack() as stack:
        sampler = stack.enter_context(closing(Sampler(server, interval)))
        os.set_blocking(descriptor, False)
        begun = time.monotonic()
        clock = Clock(begun + FIRST, interval)
        while (due := clock.next(time.monotonic())) - begun < longest:
            if not _reads_until(descriptor, due):
                return
            if not _written(descriptor, encode(sampler.load()).encode()):
                return


@dataclass
class Clock:
    """Moments that are `interval` seconds apart. Missed ones are skipped."""

    first: float
    interval: float
    _past: float | None = None

    def next(self, now: float) -> float:
        """The next moment after the last one, and not before `now`."""
        missed = max(0, -(-(now - self.first) // self.interval))
        due = self.first + missed * self.interval
        if self._past is not None and due <= self._past:
            due = self._past + self.interval
        self._past = due
        return due


def _reads_until(descriptor: int, moment: float) -> bool:
    """Wait until `moment`; return False at once when nobody reads any more."""
    return not _events(descriptor, 0, lambda: moment - time.monotonic())


def _written(descriptor: int, raw: bytes) -> bool:
    """Write all of `raw`; False if nobody takes it."""
    while raw:
        until = time.monotonic() + STALLED
        events = _events(descriptor, select.POLLOUT, lambda: until - time.monotonic())  # noqa: B023
        if events != select.POLLOUT:
            return False
        try:
            raw = raw[os.write(descriptor, raw) :]
        except BlockingIOError:
            continue
        except BrokenPipeError:
            return False
    return True


def _events(descriptor: int, wanted: int, left: Callable[[], float]) -> int:
    poll = select.poll()
    poll.register(descriptor, wanted)
    found = poll.poll(max(0.0, left()) * 1000)
    return found[0][1] if found else 0
