"""The unit of a user's container (systemd.unit(5)): how it is, and starting it."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from reconciler.host import places
from reconciler.host.monitors import children
from state import bus
from state.errors import LxcGpuError, Remedy

PROC = Path("/proc")
PATIENCE = 60.0
"""Seconds that systemd's job may take, and then the container until its sshd answers, while
somebody waits for that."""
_COUNTED = ("MemoryCurrent", "TasksCurrent")


@dataclass(frozen=True)
class Power:
    """The state of a container's unit, in systemd's words (systemctl(1))."""

    active: str
    monitor: str
    """The process id of its lxc-start; 0 if it doesn't run."""
    since: str
    """When its system booted: at the start, or at a `reboot` inside. Empty if it doesn't run."""
    memory: int | None
    """Bytes, page cache included."""
    tasks: int | None

    @property
    def running(self) -> bool:
        """Whether the container is up."""
        return self.active == "active"


def power_of(user: str) -> Power:
    """The state of the user's container."""
    found = bus.properties(
        places.container_unit(user),
        {"ActiveState": "Unit", **dict.fromkeys(("MainPID", *_COUNTED), "Service")},
    )
    monitor = str(found["MainPID"])
    memory, tasks = (None if found[name] == bus.NO_NUMBER else found[name] for name in _COUNTED)
    return Power(found["ActiveState"], monitor, _since(monitor), memory, tasks)


def _since(monitor: str) -> str:
    """When the container's init, the only child of lxc-start, began; formatted as by systemctl(1).

    Not the unit's own time: at a `reboot` inside, lxc-start stays and starts another init.
    """
    try:
        began = started_at((PROC / children(monitor)[0] / "stat").read_text())
    except (OSError, IndexError):  # it isn't up, or is between two
        return ""
    ago = time.clock_gettime(time.CLOCK_BOOTTIME) - began
    return time.strftime("%a %Y-%m-%d %H:%M:%S %Z", time.localtime(time.time() - ago))


def started_at(stat: str) -> float:
    """Seconds after the boot, by /proc/PID/stat (proc(5)). Pure but for the clock's rate."""
    return int(stat.rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")


def start_unit(user: str, patience: float) -> None:
    """Have systemd start the container within `patience` seconds. LxcGpuError if it doesn't."""
    unit = places.container_unit(user)
    result = bus.done(bus.manager("StartUnit", "ss", (unit, "replace")), patience)
    if result != "done":
        raise not_started(unit, result, patience)


def not_started(unit: str, result: str, patience: float) -> LxcGpuError:
    """The error for what came of systemd's job. Pure."""
    if result == "failed":
        return ended(unit)
    if result == bus.LATE:
        return LxcGpuError(
            "not-started",
            f"systemd has not started the container within {patience:g} s; it may still do so.",
            "Try again in a minute. Sysadmin: `systemctl list-jobs` says what it waits for.",
            Remedy.WAIT,
        )
    return LxcGpuError(
        "not-started",
        f"systemd did not start the container; it says: {result}.",
        f"Try again. Sysadmin: `systemctl status {unit}` tells more.",
        Remedy.RETRY,
    )


def ended(unit: str) -> LxcGpuError:
    """The error for a container whose unit is down again. Pure."""
    return LxcGpuError(
        "container-ended",
        "The container ended as soon as it was started.",
        f"Sysadmin: `journalctl -u {unit}` says why.",
    )
