"""Reads CPU and memory use of the whole machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import psutil

from state.wire.server_load import CpuLoad, MemoryLoad

HWMON = Path("/sys/class/hwmon")
OF_CPUS = ("coretemp", "k10temp", "zenpower", "cpu_thermal", "cpu", "soc_thermal", "scpi_sensors")
"""The kernel's names of the sensors that sit in CPUs."""
_WHOLE = ("Package id", "Tctl", "Tdie")
"""Labels of a whole CPU's temperature; its cores are no hotter."""


@dataclass(frozen=True)
class CpuTimes:
    """CPU time since the boot, of all CPUs together, in seconds."""

    busy: float
    total: float


def cpu_times() -> CpuTimes:
    """The CPU times until now. Time that a hypervisor took (steal) counts as passed, not busy."""
    times = psutil.cpu_times()
    busy = times.user + times.nice + times.system + times.irq + times.softirq
    return CpuTimes(busy, busy + times.idle + times.iowait + times.steal)


def cpu_load(before: CpuTimes, now: CpuTimes, cpus: int, temperature: float | None) -> CpuLoad:
    """What all CPUs did between two moments. Pure."""
    passed = now.total - before.total
    share = (now.busy - before.busy) / passed if passed > 0 else 0.0
    return CpuLoad(round(min(100.0, max(0.0, 100 * share)), 1), max(1, cpus), temperature)


def memory_load() -> MemoryLoad:
    """Memory and swap."""
    memory, swap = psutil.virtual_memory(), psutil.swap_memory()
    return MemoryLoad(memory.total, memory.available, swap.total, swap.used)


class CpuSensors:
    """How hot the CPUs are.

    psutil isn't used: it reads every sensor of the machine, also of disks and network cards, and
    one that hangs would hold up the rest.
    """

    def __init__(self, hwmon: Path = HWMON) -> None:
        self._inputs = _inputs(hwmon)

    def hottest(self) -> float | None:
        """The hottest CPU in degrees Celsius; None if there is no sensor."""
        found = (_degrees(file) for file in self._inputs)
        known = [degrees for degrees in found if degrees is not None and -50 < degrees < 200]
        return max(known, default=None)


def _inputs(hwmon: Path) -> tuple[Path, ...]:
    """The files to read: the sensors of whole CPUs, else all sensors in CPUs."""
    files = [
        (_word(file.with_name(file.name.replace("_input", "_label"))), file)
        for sensor in sorted(hwmon.glob("hwmon*"))
        if _word(sensor / "name") in OF_CPUS
        for file in sorted(sensor.glob("temp*_input"))
    ]
    whole = tuple(file for label, file in files if label.startswith(_WHOLE))
    return whole or tuple(file for _, file in files)


def _word(file: Path) -> str:
    try:
        return file.read_text("utf-8", "replace").strip()
    except OSError:
        return ""


def _degrees(file: Path) -> float | None:
    text = _word(file)
    try:
        return int(text) / 1000
    except ValueError:
        return None
