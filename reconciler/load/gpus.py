"""Asks about the GPUs by a child that keeps NVML open.

Opening NVML takes long. It wakes every GPU up where no program has one open (persistence mode off).
Any failure ends the child; a new one starts afresh, with the driver that is there by then. While
the server is suspended there is no child, because an open NVML keeps the kernel module from being
unloaded.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from reconciler.children.answering import AnsweringChild, EndedError, SilentError
from reconciler.host import suspension
from reconciler.nvidia import nvml, versions
from reconciler.nvidia.nvml import Gpu, GpuProcess, Reading
from reconciler.nvidia.query import Query
from state.errors import LxcGpuError
from state.files import read_text
from state.wire.server_load import (
    DriverVersions,
    GpuLoad,
    GpuProblem,
    GpuUser,
    MigLoad,
    as_text,
    as_word,
)

FIRST_PATIENCE = 30.0
"""Seconds that the first answer may take: opening NVML wakes GPUs one after the other."""
KEPT = 15.0
"""Seconds for which the last reading is shown while the next one is awaited."""
RENEWED = 30.0
"""Seconds after which NVML is opened again while a GPU is lost, to find one that was reset."""
PAUSES = (10.0, 20.0, 30.0, 60.0, 300.0)
MODULE = Path("/sys/module/nvidia")
SUSPENDED = GpuProblem(nvml.SUSPENDED.code, nvml.SUSPENDED.message)
WAKING = GpuProblem("gpu-waking", "NVIDIA's driver was asked and has not answered yet.")


@dataclass(frozen=True)
class GpuView:
    """What is known of the driver and the GPUs at one moment."""

    driver: DriverVersions
    gpus: tuple[Gpu, ...] = ()
    problem: GpuProblem | None = None


@dataclass(frozen=True)
class _Driver:
    """The driver, by what can be seen without asking it."""

    versions: DriverVersions
    nodes: bool
    """Whether its device files are there, whatever /proc shows."""
    module: int | None
    """A number that changes whenever the module is loaded again."""

    @property
    def present(self) -> bool:
        return bool(self.versions.loaded or self.versions.installed or self.nodes)


class GpuSampler:
    """Asks about the GPUs again and again. A driver that hangs holds nothing else up."""

    def __init__(self, patience: float = nvml.PATIENCE, first: float = FIRST_PATIENCE) -> None:
        self._patience = patience
        self._child = AnsweringChild(nvml.NAME, Query(), patience, first=first, pauses=PAUSES)
        self._driver: _Driver | None = None
        self._reading: Reading | None = None
        self._read = self._begun = 0.0
        self._problem: GpuProblem | None = None

    def ask(self) -> None:
        """Begin to ask; `view` collects the answer. Other work can be done in between."""
        driver = _there()
        if driver != self._driver:
            self._forget()
            self._driver = driver
        if not driver.present:
            return
        if suspension.suspension() is not None:
            self._forget()
            self._problem = SUSPENDED
            return
        if self._problem is SUSPENDED:
            self._problem = WAKING
        _prepare()
        if self._problem and self._reading and monotonic() - self._begun > RENEWED:
            self._child.forgive()
        try:
            if self._child.ask(None) and not self._child.has_answered:
                self._begun = monotonic()
        except (SilentError, EndedError) as error:
            self._failed(nvml.failure(error, self._patience))

    def view(self, seconds: float) -> GpuView:
        """What is known after waiting for `seconds` at most."""
        if self._driver is None or not self._driver.present:
            return GpuView(DriverVersions())
        self._collect(seconds)
        reading, said = self._reading, self._driver.versions
        if reading is None:
            return GpuView(said, problem=self._problem or WAKING)
        loaded = said.loaded or as_word(reading.driver)
        return GpuView(DriverVersions(loaded, said.installed), reading.gpus, self._problem)

    def close(self) -> None:
        """End the child that asks."""
        self._child.close()

    def _collect(self, seconds: float) -> None:
        try:
            fields = self._child.answer(seconds)
            if fields is not None:
                reading = nvml.reading(fields)
                self._reading, self._read = reading, monotonic()
                self._problem = _problem(reading.problem) if reading.problem else None
                self._child.succeeded()
        except LxcGpuError as error:
            self._child.failed()
            self._failed(error)
        except (SilentError, EndedError) as error:
            self._failed(nvml.failure(error, self._patience))
        if self._reading and monotonic() - self._read > KEPT:
            self._reading, self._problem = None, self._problem or WAKING

    def _failed(self, error: LxcGpuError) -> None:
        self._reading, self._problem = None, _problem(error)

    def _forget(self) -> None:
        self._child.forgive()
        self._reading, self._problem = None, None


def _there() -> _Driver:
    loaded = versions.of_proc(read_text(versions.PROC / "version") or "")
    installed = versions.installed()
    module = None
    with suppress(OSError):
        module = MODULE.stat().st_ino
    said = DriverVersions(as_word(loaded or ""), as_word(installed or ""))
    return _Driver(said, (versions.DEV / "nvidiactl").exists(), module)


def _prepare() -> None:
    """Load pynvml here, so that children that are forked later need not."""
    with suppress(ImportError):
        import pynvml  # noqa: F401


def loads(gpus: Sequence[Gpu], owner: Callable[[int], str]) -> tuple[GpuLoad, ...]:
    """The GPUs with their users in place of processes; `owner` gives the user of a pid. Pure."""
    return tuple(
        GpuLoad(
            index=gpu.index,
            uuid=as_word(gpu.uuid),
            name=as_word(gpu.name),
            memory_total=gpu.memory_total,
            memory_used=gpu.memory_used,
            utilisation=_up_to(100.0, gpu.utilisation),
            temperature=_up_to(1000.0, gpu.temperature),
            power=_up_to(100_000.0, gpu.power),
            power_limit=_up_to(100_000.0, gpu.power_limit),
            mig=tuple(
                MigLoad(as_word(each.uuid), as_word(each.name), each.memory_total, each.memory_used)
                for each in gpu.mig
            ),
            users=_users(gpu.processes, owner),
        )
        for gpu in gpus
    )


def _users(processes: Sequence[GpuProcess], owner: Callable[[int], str]) -> tuple[GpuUser, ...]:
    """The users that hold memory, the most first; None: the driver doesn't say how much."""
    held = dict[str, int | None]()
    for each in processes:
        user = owner(each.pid)
        known = held.get(user)
        held[user] = known if each.memory is None else (known or 0) + each.memory
    found = (GpuUser(user, memory) for user, memory in held.items())
    return tuple(sorted(found, key=lambda each: (-(each.memory or 0), each.user)))


def _up_to(most: float, value: float | None) -> float | None:
    """The driver's value, or None if it can't be true."""
    return None if value is None or not -100 <= value <= most else float(value)


def _problem(error: LxcGpuError) -> GpuProblem:
    return GpuProblem(error.code, as_text(f"{error.message} {error.hint}"))


def uid_of(pid: int) -> int | None:
    """The owner of a process that no look has seen yet; None: it has ended."""
    try:
        return os.stat(f"/proc/{pid}").st_uid  # noqa: PTH116
    except OSError:
        return None
