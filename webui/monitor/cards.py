"""What the monitor's card of one server shows, made from its newest load. Pure.

Numbers become words here, with their unit: a template only places them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

from state.server_load import FileSystem, GpuLoad, IdleContainer, ServerLoad
from state.sizes import size
from webui.monitor.latest import Seen
from webui.monitor.people import People, Person
from webui.server_card import Line, clock_lines
from webui.words import lasting

NEARLY_FULL = 90.0
"""Percent of a file system in use that are worth a word."""
_UNITS = (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20))


@dataclass(frozen=True)
class Bar:
    """A share, drawn, and in words."""

    share: float
    """Percent."""
    words: str
    high: bool = False
    """Whether it is worth a look."""


@dataclass(frozen=True)
class Holder:
    """Somebody who holds a GPU."""

    person: Person
    memory: str
    """How much of its memory; empty if the driver doesn't say."""


@dataclass(frozen=True)
class GpuRow:
    """One GPU."""

    index: int
    uuid: str
    free: bool
    used: Bar | None
    """Utilisation; None: not known."""
    memory: Bar
    temperature: str
    power: str
    holders: tuple[Holder, ...]
    parts: tuple[tuple[str, Bar], ...]
    """Of a GPU that is shared out (MIG): name and memory of each instance."""


@dataclass(frozen=True)
class GpuGroup:
    """GPUs of one server that are the same."""

    name: str
    full_name: str
    each: str
    """Memory of each, and the power that it may take."""
    rows: tuple[GpuRow, ...]


@dataclass(frozen=True)
class UserRow:
    """What one person takes of a server."""

    person: Person
    cpus: str
    memory: str
    gpu_memory: str
    gpus: str
    """Indices; empty: none."""


@dataclass(frozen=True)
class IdleRow:
    """A container that nobody uses."""

    person: Person
    since: float


@dataclass(frozen=True)
class Disk:
    """One file system."""

    mounted: str
    bar: Bar


@dataclass(frozen=True)
class Numbers:
    """What a load says, for a card."""

    cpu: Bar
    cpu_more: str
    memory: Bar
    swap: str
    groups: tuple[GpuGroup, ...]
    disks: tuple[Disk, ...]
    disk_rates: tuple[tuple[str, str, str], ...]
    """Name, read, written."""
    network: tuple[tuple[str, str, str], ...]
    """Name, received, sent."""
    users: tuple[UserRow, ...]
    idle: tuple[IdleRow, ...]
    driver: str


@dataclass(frozen=True)
class Card:
    """One server."""

    server: str
    phase: str
    """The colour: free, full, plain, silent, never, waiting."""
    word: str
    """The state of things in a word or two."""
    notes: tuple[Line, ...] = ()
    since: float | None = None
    """Silent: since when."""
    numbers: Numbers | None = None
    """None: nothing was ever heard."""
    free: int = 0
    gpus: int = 0
    cpu: float | None = None
    """Percent; None: not known now."""
    gpu: float | None = None
    """Percent: the mean of its GPUs."""
    people: frozenset[str] = frozenset()
    """Who runs something there: names as servers, and as people, say them; in small letters."""
    texts: str = ""
    """What a search looks through, in small letters."""

    @property
    def old(self) -> bool:
        """Whether the numbers are not of this moment."""
        return self.since is not None


def card(seen: Seen, people: People, now: float) -> Card:
    """What to show of one server."""
    load = seen.load
    silent = seen.silent_since is not None
    if load is None:
        notes = (Line("Nothing was ever heard of it", seen.why, seen.hint),) if silent else ()
        word = "never heard" if silent else "not heard yet"
        phase = "never" if silent else "waiting"
        return Card(seen.server, phase, word, notes, seen.silent_since, texts=seen.server.lower())
    persons = [people.named(name) for name in sorted(_users(load))]
    names = {text.casefold() for each in persons for text in (each.user, each.name)}
    shown = {seen.server, *names, *(gpu.name for gpu in load.gpus)}
    used = [gpu.utilisation for gpu in load.gpus if gpu.utilisation is not None]
    phase, word = ("silent", "silent") if silent else _word(load)
    return Card(
        server=seen.server,
        phase=phase,
        word=word,
        notes=tuple(_notes(seen, load, now)),
        since=seen.silent_since,
        numbers=_numbers(load, people),
        free=0 if silent else len(load.free_gpus),
        gpus=len(load.gpus),
        cpu=None if silent else load.cpu.percent,
        gpu=None if silent or not used else sum(used) / len(used),
        people=frozenset(names),
        texts="\n".join(sorted(text.casefold() for text in shown)),
    )


def short_name(name: str) -> str:
    """A GPU's name without what all of them have in it."""
    for word in ("NVIDIA ", "GeForce ", "Tesla "):
        name = name.removeprefix(word)
    return name or "GPU"


def share_of(used: float, total: float) -> float:
    """Percent of `total`, from 0 to 100, whatever a server says."""
    return min(100.0, max(0.0, 100 * used / total)) if total else 0.0


def part(used: float, total: float) -> str:
    """`used` of `total` bytes, in one unit: 12.4 / 80.0 GiB."""
    for unit, bytes_ in _UNITS:
        if total >= bytes_ or unit == "MiB":
            return f"{used / bytes_:.1f} / {total / bytes_:.1f} {unit}"
    raise AssertionError("the last unit takes everything")


def _users(load: ServerLoad) -> set[str]:
    holders = {each.user for gpu in load.gpus for each in gpu.users}
    return holders | {each.user for each in load.users}


def _word(load: ServerLoad) -> tuple[str, str]:
    if not load.gpus:
        return ("plain", "GPUs not known") if load.gpu_problem else ("plain", "no GPU")
    free, total = len(load.free_gpus), len(load.gpus)
    if not free:
        return "full", "none free" if total > 1 else "not free"
    return "free", f"{free} of {total} free" if total > 1 else "free"


def _notes(seen: Seen, load: ServerLoad, now: float) -> Iterable[Line]:
    if seen.silent_since is not None:
        heard = "" if seen.heard is None else lasting(seen.heard, now)
        yield Line("Silent", f"{seen.why} The numbers below are {heard} old.".strip(), seen.hint)
    if load.gpu_problem is not None:
        problem = load.gpu_problem
        what = "Some of its GPUs can't be read" if load.gpus else "Of its GPUs nothing is known"
        yield Line(what, problem.message, code=problem.code)
    if not load.driver.in_step:
        loaded = load.driver.loaded or "none"
        text = (
            f"The loaded module is {loaded}, the libraries are {load.driver.installed or 'none'}."
        )
        hint = "GPUs may refuse to work until a sysadmin has put it right; mostly, a reboot does."
        yield Line("NVIDIA's driver is out of step", text, hint)
    if seen.heard is not None:
        yield from clock_lines(seen.server, load.at, seen.heard)
    for each in load.file_systems:
        bar = _file_system(each).bar
        if bar.high:
            yield Line(f"{each.mounted} is nearly full", f"{size(each.available)} are left.")


def _numbers(load: ServerLoad, people: People) -> Numbers:
    cpu, memory = load.cpu, load.memory
    taken = max(0, memory.total - memory.available)
    heat = "" if cpu.temperature is None else f", {cpu.temperature:.0f} °C"
    swap = part(memory.swap_used, memory.swap_total) if memory.swap_total else ""
    return Numbers(
        cpu=Bar(cpu.percent, f"{cpu.percent:.0f} %", cpu.percent > NEARLY_FULL),
        cpu_more=f"of {cpu.cpus} core{'s' * (cpu.cpus != 1)}{heat}",
        memory=_memory(taken, memory.total),
        swap=swap,
        groups=_groups(load.gpus, people),
        disks=tuple(_file_system(each) for each in load.file_systems),
        disk_rates=tuple((d.name, _rate(d.read), _rate(d.written)) for d in load.disks),
        network=tuple((n.name, _rate(n.received), _rate(n.sent)) for n in load.network),
        users=_user_rows(load, people),
        idle=tuple(_idle(each, people) for each in load.idle),
        driver=load.driver.loaded or load.driver.installed,
    )


def _groups(gpus: Iterable[GpuLoad], people: People) -> tuple[GpuGroup, ...]:
    def alike(gpu: GpuLoad) -> tuple[str, int, float | None]:
        return gpu.name, gpu.memory_total, gpu.power_limit

    return tuple(
        GpuGroup(
            name=short_name(name),
            full_name=name,
            each=size(memory) + ("" if power is None else f", {power:.0f} W"),
            rows=tuple(_gpu(gpu, people) for gpu in same),
        )
        for (name, memory, power), same in groupby(gpus, key=alike)
    )


def _gpu(gpu: GpuLoad, people: People) -> GpuRow:
    used = gpu.utilisation
    share = share_of(gpu.memory_used, gpu.memory_total)
    return GpuRow(
        index=gpu.index,
        uuid=gpu.uuid,
        free=gpu.free,
        used=None if used is None else Bar(used, f"{used:.0f} %"),
        memory=Bar(share, f"{gpu.memory_used / 2**30:.1f} GiB"),
        temperature="" if gpu.temperature is None else f"{gpu.temperature:.0f} °C",
        power="" if gpu.power is None else f"{gpu.power:.0f} W",
        holders=tuple(
            Holder(people.named(each.user), "" if each.memory is None else size(each.memory))
            for each in gpu.users
        ),
        parts=tuple((each.name, _memory(each.memory_used, each.memory_total)) for each in gpu.mig),
    )


def ranges(numbers: Iterable[int]) -> str:
    """Numbers in order, neighbours together: 0-3, 5."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs)


def _memory(used: float, total: float) -> Bar:
    share = share_of(used, total)
    return Bar(share, part(used, total), share > NEARLY_FULL)


def _file_system(each: FileSystem) -> Disk:
    return Disk(each.mounted, _memory(max(0, each.total - each.available), each.total))


def _user_rows(load: ServerLoad, people: People) -> tuple[UserRow, ...]:
    return tuple(
        UserRow(
            person=people.named(each.user),
            cpus=f"{each.cpus:.1f}",
            memory=size(each.memory),
            gpu_memory=gpu_memory(load, each.user),
            gpus=ranges(gpu.index for gpu in held(load, each.user)),
        )
        for each in load.users
    )


def held(load: ServerLoad, user: str) -> tuple[GpuLoad, ...]:
    """The GPUs that `user` holds."""
    return tuple(gpu for gpu in load.gpus if any(each.user == user for each in gpu.users))


def gpu_memory(load: ServerLoad, user: str) -> str:
    """How much GPU memory `user` holds; empty: none."""
    mine = [each.memory for gpu in load.gpus for each in gpu.users if each.user == user]
    if not mine:
        return ""
    known = [memory for memory in mine if memory is not None]
    return size(sum(known)) if known else "not known"


def _idle(each: IdleContainer, people: People) -> IdleRow:
    return IdleRow(people.named(each.user), each.since)


def _rate(number: float) -> str:
    return f"{size(number)}/s"
