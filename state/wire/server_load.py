"""What one server is doing at one moment: what `ssh iam@SERVER load` says, one JSON object a line.

Memory and sizes are bytes, rates bytes a second, shares percent, temperatures degrees Celsius,
power watts. None means that the server doesn't know. `decode` checks what
another machine says: each number is in its range, each text short and printable, each list short.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import cache
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge, Le, MaxLen, Predicate

from state.wire.messages import LATEST, BadMessageError, Refusal
from state.wire.messages import decode as decode_message
from state.wire.notices import MOST_TOLD, Notice
from state.words import printable

if TYPE_CHECKING:
    from pydantic import TypeAdapter

LONGEST_LINE = 1_000_000
"""Bytes; a longer line isn't a load. 16 GPUs and 500 users take 90,000, and 500 reservations of all
of them 450,000."""
INTERVAL = 5.0
"""Seconds between two lines."""
SYSTEM = "system"
"""The pseudo-user for what belongs to no person: the server's own programs, and ended ones."""

MOST_BYTES = 2**60
MOST_DISKS = 200
MOST_INTERFACES = 100
MOST_RESERVATIONS = 500
MOST_INTRUDERS = 100
Bytes = Annotated[int, Ge(0), Le(MOST_BYTES)]
Rate = Annotated[float, Ge(0), Le(2.0**60)]
Percent = Annotated[float, Ge(0), Le(100)]
Celsius = Annotated[float, Ge(-100), Le(1000)]
Watts = Annotated[float, Ge(0), Le(100_000)]
Seconds = Annotated[float, Ge(0), Le(3600)]
Moment = Annotated[float, Ge(0), Le(LATEST)]
"""Seconds since the epoch, by the server's clock."""
Count = Annotated[int, Ge(0), Le(10_000_000)]
LONGEST_WORD, LONGEST_TEXT = 128, 500
"""Letters."""
Word = Annotated[str, MaxLen(LONGEST_WORD), Predicate(str.isprintable)]
Text = Annotated[str, MaxLen(LONGEST_TEXT), Predicate(str.isprintable)]


@dataclass(frozen=True)
class CpuLoad:
    """All CPUs together."""

    percent: Percent
    cpus: Annotated[int, Ge(1), Le(100_000)]
    """Logical ones."""
    temperature: Celsius | None = None
    """Of the hottest."""


@dataclass(frozen=True)
class MemoryLoad:
    """The server's memory, and what it swapped out."""

    total: Bytes
    available: Bytes
    """What programs could still take without swapping (MemAvailable, proc_meminfo(5))."""
    swap_total: Bytes = 0
    swap_used: Bytes = 0

    @property
    def used(self) -> int:
        """Bytes that aren't available; never less than none, whatever a server says."""
        return max(0, self.total - self.available)


@dataclass(frozen=True)
class DriverVersions:
    """NVIDIA's driver, by version; empty: there is none."""

    loaded: Word = ""
    """The kernel module."""
    installed: Word = ""
    """The libraries."""

    @property
    def in_step(self) -> bool:
        """Whether module and libraries belong together; two that are missing do."""
        return self.loaded == self.installed


@dataclass(frozen=True)
class GpuUser:
    """Somebody who holds memory of a GPU."""

    user: Word
    memory: Bytes | None = None


@dataclass(frozen=True)
class MigLoad:
    """One instance of a GPU that is shared out in parts (MIG)."""

    uuid: Word
    name: Word
    memory_total: Bytes
    memory_used: Bytes


@dataclass(frozen=True)
class GpuLoad:
    """One GPU."""

    index: Annotated[int, Ge(0), Le(1000)]
    uuid: Word
    name: Word
    memory_total: Bytes
    memory_used: Bytes
    utilisation: Percent | None = None
    """Percent of the driver's last sample period in which something ran on it."""
    temperature: Celsius | None = None
    power: Watts | None = None
    power_limit: Watts | None = None
    mig: Annotated[tuple[MigLoad, ...], MaxLen(64)] = ()
    users: Annotated[tuple[GpuUser, ...], MaxLen(1000)] = ()
    """The users who have memory of it, the most first."""

    @property
    def holders(self) -> frozenset[str]:
        """The people who hold it: a server's own desktop (Xorg) has memory of it, and is nobody."""
        return frozenset(each.user for each in self.users) - {SYSTEM}

    @property
    def free(self) -> bool:
        """Whether nobody holds it and it does nothing: who comes now may take it."""
        idle = self.utilisation is None or self.utilisation < 5
        return not self.holders and idle and self.memory_used <= self.memory_total // 10


@dataclass(frozen=True)
class GpuProblem:
    """Why something can't be said."""

    code: Word
    message: Text


@dataclass(frozen=True)
class FileSystem:
    """One file system on a disk, or of a NAS."""

    mounted: Word
    """Where."""
    total: Bytes
    available: Bytes
    """What those who are not root may still take."""

    @property
    def used(self) -> int:
        """Bytes that aren't available; never less than none."""
        return max(0, self.total - self.available)


@dataclass(frozen=True)
class DiskRate:
    """One disk."""

    name: Word
    read: Rate
    written: Rate


@dataclass(frozen=True)
class NetworkRate:
    """One interface to the world: no container's."""

    name: Word
    received: Rate
    sent: Rate


@dataclass(frozen=True)
class UserLoad:
    """What one person's programs take, in the container and outside it."""

    user: Word
    """A resident, another account of the server, or SYSTEM."""
    cpus: Annotated[float, Ge(0), Le(100_000)]
    """How many CPUs are busy for them; 1.0 is one."""
    memory: Bytes
    programs: Count


@dataclass(frozen=True)
class IdleContainer:
    """A container that runs though nobody uses it, for longer than the state lets pass unsaid."""

    user: Word
    since: Moment
    """When its GPUs, its CPUs or a login were last seen in use."""


@dataclass(frozen=True)
class ReservedGpus:
    """A reservation of GPUs that is under way, or to come."""

    id: Word
    user: Word
    gpus: Annotated[tuple[Word, ...], MaxLen(64)]
    """UUIDs."""
    begins: Moment
    ends: Moment
    unused_since: Moment | None = None
    """Since when its user has had no program on any of them; None: in use, or not begun."""
    intruders: Annotated[tuple[Word, ...], MaxLen(MOST_INTRUDERS)] = ()
    """Other people with a program on one of them."""


@dataclass(frozen=True)
class ServerLoad:
    """Everything, at one moment."""

    server: Word
    at: Moment
    interval: Seconds
    """The next one follows after so long."""
    cpu: CpuLoad
    memory: MemoryLoad
    driver: DriverVersions = DriverVersions()
    gpus: Annotated[tuple[GpuLoad, ...], MaxLen(64)] = ()
    gpu_problem: GpuProblem | None = None
    """Why nothing is said of GPUs where there could be some, or not of all."""
    file_systems: Annotated[tuple[FileSystem, ...], MaxLen(100)] = ()
    disks: Annotated[tuple[DiskRate, ...], MaxLen(MOST_DISKS)] = ()
    network: Annotated[tuple[NetworkRate, ...], MaxLen(MOST_INTERFACES)] = ()
    users: Annotated[tuple[UserLoad, ...], MaxLen(5000)] = ()
    """The busiest first; who runs nothing is left out."""
    idle: Annotated[tuple[IdleContainer, ...], MaxLen(5000)] = ()
    stopped_idle: Annotated[tuple[IdleContainer, ...], MaxLen(5000)] = ()
    """Those that were stopped for it, `since` when."""
    reservations: Annotated[tuple[ReservedGpus, ...], MaxLen(MOST_RESERVATIONS)] = ()
    """Those under way and of the next fortnight, in the order of their beginnings."""
    notices: Annotated[tuple[Notice, ...], MaxLen(MOST_TOLD)] = ()
    """What people are still to be told; their ids come back by `told`."""

    @property
    def free_gpus(self) -> tuple[GpuLoad, ...]:
        """Those that nobody uses."""
        return tuple(gpu for gpu in self.gpus if gpu.free)

    @property
    def gpu_utilisation(self) -> float | None:
        """Percent, the mean of the GPUs that tell; None if none does."""
        told = [gpu.utilisation for gpu in self.gpus if gpu.utilisation is not None]
        return sum(told) / len(told) if told else None


def as_text(said: str, longest: int = LONGEST_TEXT) -> str:
    """What anybody said, as one line that fits: a `Text`."""
    return printable(" ".join(said.split()))[:longest]


def as_word(said: str) -> str:
    """What anybody said, as a `Word`."""
    return as_text(said, LONGEST_WORD)


def encode(load: ServerLoad) -> str:
    """`load` as one line."""
    return json.dumps({"load": asdict(load)}, ensure_ascii=False, separators=(",", ":")) + "\n"


def decode(line: bytes) -> ServerLoad:
    """The load in one line. BadMessageError if it is none; LxcGpuError if the server refuses."""
    if len(line) > LONGEST_LINE:
        raise BadMessageError("the line is too long")
    if line.startswith(b'{"refusal"'):
        message = decode_message(line)
        if isinstance(message, Refusal):
            raise message.error()
    try:
        return _adapter().validate_json(line, strict=True).load
    except ValueError as error:
        raise BadMessageError(f"not a load: {error}") from error


@dataclass(frozen=True)
class _Line:
    load: ServerLoad


@cache
def _adapter() -> TypeAdapter[_Line]:
    from pydantic import TypeAdapter  # only who reads needs it, and it takes 100 ms

    return TypeAdapter(_Line)
