"""What the GPUs do, read from NVIDIA's management library (NVML).

NVML may hang forever in the kernel when a GPU has failed, so a child asks it, with a time limit.
On a server without the driver, nothing is loaded and nothing is started; nor on a suspended one, so
that the driver can be exchanged.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from reconciler.children.answering import AnsweringChild, EndedError, SilentError
from reconciler.host.suspension import suspension
from reconciler.nvidia.query import NO_PYNVML, Query
from state.errors import LxcGpuError, Remedy

NAME = "lxc-gpu-nvml"
"""Of the child that asks, in the list of processes."""
PATIENCE = 8.0
"""Seconds: eight GPUs that were asleep take several."""
LOOK = "Sysadmin: `dmesg | grep -i xid`; a GPU that has failed needs a reboot."

SUSPENDED = LxcGpuError(
    "gpu-suspended",
    "This server is suspended: its GPUs are left alone, so that the driver can be exchanged.",
    "Sysadmin: `lxc-gpu resume` lets it go on.",
    Remedy.WAIT,
)


@dataclass(frozen=True)
class GpuProcess:
    """A process that has memory on a GPU."""

    pid: int
    memory: int | None
    """Bytes; None where the driver doesn't say."""


@dataclass(frozen=True)
class MigInstance:
    """A part of a GPU that is shared out (MIG)."""

    uuid: str
    name: str
    """Its profile: 1g.5gb."""
    memory_total: int
    """Bytes."""
    memory_used: int
    """Bytes."""


@dataclass(frozen=True)
class Gpu:
    """One GPU, now."""

    index: int
    uuid: str
    minor: int
    name: str
    memory_total: int
    """Bytes."""
    memory_used: int
    """Bytes."""
    utilisation: int | None
    """Percent of the last sample period in which something ran; None where unknown."""
    temperature: int | None
    """Degrees Celsius; None where unknown."""
    power: float | None
    """Watts; None where unknown."""
    power_limit: float | None
    """Watts, the one in force; None where unknown."""
    mig: tuple[MigInstance, ...]
    """Its parts; none where MIG is off."""
    processes: tuple[GpuProcess, ...]


@dataclass(frozen=True)
class Reading:
    """All GPUs, at one moment."""

    driver: str
    gpus: tuple[Gpu, ...]
    problem: LxcGpuError | None = None
    """Why some GPUs are missing here."""


def read(patience: float = PATIENCE) -> Reading:
    """What the driver says now. LxcGpuError if there is none, it doesn't answer, or it is to be
    left alone."""
    if suspension() is not None:
        raise SUSPENDED
    with closing(AnsweringChild(NAME, Query(), patience)) as child:
        try:
            child.ask(None)
            fields = child.answer(patience)
        except (SilentError, EndedError) as error:
            raise failure(error, patience) from error
    if fields is None:
        raise failure(SilentError(), patience)
    return reading(fields)


def failure(error: SilentError | EndedError, patience: float) -> LxcGpuError:
    """Why the child that asks gave no answer."""
    if isinstance(error, EndedError):
        message = "NVIDIA's driver ended the program that asked."
        return LxcGpuError("gpu-silent", message, LOOK, details=str(error))
    message = f"NVIDIA's driver did not answer within {patience:g} s."
    return LxcGpuError("gpu-hangs", message, LOOK, Remedy.PERSON)


def reading(fields: Mapping[str, Any]) -> Reading:
    """What `Query` answered. LxcGpuError if that was an error. Pure."""
    if "error" in fields:
        raise _error(fields["error"], str(fields["text"]))
    lost = [f"GPU {each['index']}: {each['text']}" for each in fields["lost"]]
    problem = LxcGpuError("gpu-lost", f"NVIDIA's driver can't read {'; '.join(lost)}.", LOOK)
    gpus = tuple(_gpu(gpu) for gpu in fields["gpus"])
    return Reading(str(fields["driver"]), gpus, problem if lost else None)


def _gpu(fields: Mapping[str, Any]) -> Gpu:
    return Gpu(
        **{
            **fields,
            "processes": tuple(GpuProcess(**each) for each in fields["processes"]),
            "mig": tuple(MigInstance(**each) for each in fields["mig"]),
        }
    )


_NO_LIBRARY, _NOT_LOADED, _MISMATCH = 12, 9, 18
"""NVML_ERROR_*, by nvml.h."""


def _error(code: int, text: str) -> LxcGpuError:
    if code in (_NO_LIBRARY, NO_PYNVML):
        return LxcGpuError(
            "gpu-no-library",
            "NVIDIA's management library is not on this server, so nothing can be said of GPUs.",
            "Sysadmin: install the driver's libraries (libnvidia-ml.so.1).",
            details=text,
        )
    if code == _NOT_LOADED:
        return LxcGpuError(
            "gpu-not-loaded",
            "NVIDIA's driver is installed on this server, but not loaded.",
            "Sysadmin: `modprobe nvidia` says why; after an installation, reboot.",
            details=text,
        )
    if code == _MISMATCH:
        return LxcGpuError(
            "gpu-upgraded",
            "NVIDIA's driver on this server was upgraded, and the server not restarted since.",
            "Programs on the GPUs go on; the list comes back with the restart.",
            Remedy.WAIT,
            text,
        )
    return LxcGpuError("gpu-silent", f"NVIDIA's driver gives no answer: {text}.", LOOK, Remedy.WAIT)
