"""The monitor's card of one server, made from its newest load. Pure.

Numbers become words with units here. The template only places them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from state.sizes import size
from state.wire.reserved import open_gpus
from state.wire.server_load import FileSystem, IdleContainer, ServerLoad
from state.words import plural
from webui.monitor.heard.latest import LastHeard
from webui.monitor.shown.amounts import NEARLY_FULL, Bar, memory_bar, part, ranges
from webui.monitor.shown.closed import Closed
from webui.monitor.shown.gpu_rows import GpuGroup, gpu_memory, groups, held
from webui.monitor.shown.people import NamedPerson, People
from webui.servers.server_card import Remark, clock_lines
from webui.words import clock, lasting

MOST_USERS = 25
"""Users of one server who are listed, at most."""


@dataclass(frozen=True)
class UserRow:
    """What one person uses of a server."""

    person: NamedPerson
    cpus: str
    memory: str
    gpu_memory: str
    gpus: str
    """The indices of the GPUs that they hold; empty if none."""


@dataclass(frozen=True)
class IdleRow:
    """An idle container."""

    person: NamedPerson
    since: float


@dataclass(frozen=True)
class Disk:
    """One file system."""

    mounted: str
    bar: Bar


@dataclass(frozen=True)
class Figures:
    """The figures of a load, in words."""

    cpu: Bar
    cpu_more: str
    memory: Bar
    swap: str
    groups: tuple[GpuGroup, ...]
    disks: tuple[Disk, ...]
    disk_rates: tuple[tuple[str, str, str], ...]
    """(name, read, written)"""
    network: tuple[tuple[str, str, str], ...]
    """(name, received, sent)"""
    users: tuple[UserRow, ...]
    more_users: int
    """The number of users who aren't listed."""
    idle: tuple[IdleRow, ...]
    driver: str


@dataclass(frozen=True)
class MonitorCard:
    """One server's card, and the facts by which pages choose and sort servers."""

    server: str
    phase: str
    """The colour: free, full, plain, silent, never, waiting."""
    word: str
    """The server's condition in a word or two."""
    notes: tuple[Remark, ...] = ()
    since: float | None = None
    """Since when the server is silent, if it is."""
    numbers: Figures | None = None
    """None: the server was never heard."""
    free: int = 0
    """GPUs that are free and not reserved."""
    closed: bool = False
    """Whether its containers are shut down for maintenance."""
    kept: int = 0
    """Reserved GPUs that do nothing."""
    gpus: int = 0
    cpu: float | None = None
    """Percent in use; None: not known now."""
    gpu: float | None = None
    """The mean utilisation of its GPUs in percent; None: not known now."""
    people: frozenset[str] = frozenset()
    """Users who run something there: their names and full names in lower case."""
    texts: str = ""
    """The text in which a search looks, in lower case."""

    @property
    def old(self) -> bool:
        """Whether the figures are out of date."""
        return self.since is not None


def card(seen: LastHeard, people: People, now: float, closed: Closed | None = None) -> MonitorCard:
    """The card of one server, which is `closed` for maintenance if that is given."""
    load = seen.load
    silent = seen.silent_since is not None
    if load is None:
        notes = (
            (Remark("Nothing has been heard from it yet", seen.why, seen.hint),) if silent else ()
        )
        word = "not heard" if silent else "not heard yet"
        phase = "never" if silent else "waiting"
        return MonitorCard(
            seen.server, phase, word, notes, seen.silent_since, texts=seen.server.lower()
        )
    persons = [people.named(name) for name in sorted(_users(load))]
    names = {text.casefold() for each in persons for text in (each.user, each.name)}
    shown = {seen.server, *names, *(gpu.name for gpu in load.gpus)}
    phase, word = ("silent", "silent") if silent else _word(load, closed)
    usable = () if silent or closed else open_gpus(load)
    return MonitorCard(
        server=seen.server,
        phase=phase,
        word=word,
        notes=(*_closed_note(closed, now), *_notes(seen, load, now)),
        since=seen.silent_since,
        numbers=_numbers(load, people),
        closed=closed is not None,
        free=len(usable),
        kept=0 if silent or closed else len(load.free_gpus) - len(usable),
        gpus=len(load.gpus),
        cpu=None if silent else load.cpu.percent,
        gpu=None if silent else load.gpu_utilisation,
        people=frozenset(names),
        texts="\n".join(sorted(text.casefold() for text in shown)),
    )


def _users(load: ServerLoad) -> set[str]:
    holders = {each.user for gpu in load.gpus for each in gpu.users}
    return holders | {each.user for each in load.users}


def _word(load: ServerLoad, closed: Closed | None) -> tuple[str, str]:
    if closed:
        return "plain", "closed"
    if not load.gpus:
        return ("plain", "GPUs not known") if load.gpu_problem else ("plain", "no GPU")
    free, total = len(open_gpus(load)), len(load.gpus)
    if not free:
        return "full", "none free" if total > 1 else "not free"
    return "free", f"{free} of {total} free" if total > 1 else "free"


def _closed_note(closed: Closed | None, now: float) -> Iterable[Remark]:
    if closed is not None:
        yield Remark(f"Closed until {clock(closed.ends, now)}", closed.text)


def _notes(seen: LastHeard, load: ServerLoad, now: float) -> Iterable[Remark]:
    if seen.silent_since is not None:
        heard = "" if seen.heard is None else lasting(seen.heard, now)
        yield Remark("Silent", f"{seen.why} The numbers below are {heard} old.".strip(), seen.hint)
    if load.gpu_problem is not None:
        problem = load.gpu_problem
        what = "Some of its GPUs can't be read" if load.gpus else "Its GPUs can't be read"
        yield Remark(what, problem.message, code=problem.code)
    if not load.driver.in_step:
        loaded = load.driver.loaded or "none"
        libraries = load.driver.installed or "none"
        text = f"The loaded kernel module is version {loaded}, the libraries are {libraries}."
        hint = "GPUs may not work until a sysadmin repairs it. Usually a reboot is enough."
        yield Remark("NVIDIA's module and libraries don't match", text, hint)
    if seen.heard is not None:
        yield from clock_lines(seen.server, load.at, seen.heard)
    for each in load.file_systems:
        bar = _file_system(each).bar
        if bar.high:
            yield Remark(f"{each.mounted} is nearly full", f"{size(each.available)} left.")


def _numbers(load: ServerLoad, people: People) -> Figures:
    cpu, memory = load.cpu, load.memory
    heat = "" if cpu.temperature is None else f", {cpu.temperature:.0f} °C"
    swap = part(memory.swap_used, memory.swap_total) if memory.swap_total else ""
    return Figures(
        cpu=Bar(cpu.percent, f"{cpu.percent:.0f} %", cpu.percent > NEARLY_FULL),
        cpu_more=f"of {plural(cpu.cpus, 'core')}{heat}",
        memory=memory_bar(memory.used, memory.total),
        swap=swap,
        groups=groups(load, people),
        disks=tuple(_file_system(each) for each in load.file_systems),
        disk_rates=tuple((d.name, _rate(d.read), _rate(d.written)) for d in load.disks),
        network=tuple((n.name, _rate(n.received), _rate(n.sent)) for n in load.network),
        users=_user_rows(load, people),
        more_users=max(0, len(load.users) - MOST_USERS),
        idle=tuple(_idle(each, people) for each in load.idle),
        driver=load.driver.loaded or load.driver.installed,
    )


def _file_system(each: FileSystem) -> Disk:
    return Disk(each.mounted, memory_bar(each.used, each.total))


def _user_rows(load: ServerLoad, people: People) -> tuple[UserRow, ...]:
    return tuple(
        UserRow(
            person=people.named(each.user),
            cpus=f"{each.cpus:.1f}",
            memory=size(each.memory),
            gpu_memory=gpu_memory(load, each.user),
            gpus=ranges(gpu.index for gpu in held(load, each.user)),
        )
        for each in load.users[:MOST_USERS]
    )


def _idle(each: IdleContainer, people: People) -> IdleRow:
    return IdleRow(people.named(each.user), each.since)


def _rate(number: float) -> str:
    return f"{size(number)}/s"
