"""What the GPUs do, read from NVIDIA's management library (NVML) by pynvml.

NVML may hang for ever in the kernel when a GPU has failed, so it is asked by a child, with a time
limit. On a server without the driver, nothing is loaded and nothing is started.
"""

from __future__ import annotations

import json
import os
import select
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, NoReturn

from reconciler.forked import keep_only
from state.errors import LxcGpuError, Remedy
from state.files import read_text

PATIENCE = 8.0
"""Seconds: eight GPUs that were asleep take several."""
LOOK = "Sysadmin: `dmesg | grep -i xid`; a GPU that has failed needs a reboot."


@dataclass(frozen=True)
class GpuProcess:
    """A process that has memory on a GPU."""

    pid: int
    memory: int | None
    """Bytes; None where the driver doesn't say."""


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
    processes: tuple[GpuProcess, ...]


@dataclass(frozen=True)
class Reading:
    """All GPUs, at one moment."""

    driver: str
    gpus: tuple[Gpu, ...]


def read(patience: float = PATIENCE) -> Reading:
    """What the driver says now. LxcGpuError if there is none, or it doesn't answer."""
    fields = _in_child(_ask, patience)
    if "error" in fields:
        raise _error(fields["error"], str(fields["text"]))
    gpus = tuple(
        Gpu(**{**gpu, "processes": tuple(GpuProcess(**each) for each in gpu["processes"])})
        for gpu in fields["gpus"]
    )
    return Reading(str(fields["driver"]), gpus)


_NO_LIBRARY, _NOT_LOADED, _MISMATCH, _NO_PYNVML = 12, 9, 18, -1
"""NVML_ERROR_*, by nvml.h; and our own."""


def _error(code: int, text: str) -> LxcGpuError:
    if code in (_NO_LIBRARY, _NO_PYNVML):
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


def _ask() -> dict[str, Any]:
    try:
        import pynvml
    except ImportError as error:
        return {"error": _NO_PYNVML, "text": str(error)}
    try:
        _load_what_fits()
        pynvml.nvmlInit()
        count = range(pynvml.nvmlDeviceGetCount())
        gpus = [_gpu(pynvml, index) for index in count]
        driver = _text(pynvml.nvmlSystemGetDriverVersion())
        return asdict(Reading(driver, tuple(gpus)))
    except pynvml.NVMLError as error:
        return {"error": error.value, "text": str(error)}


def _load_what_fits() -> None:
    """Between an upgrade and the reboot, the kept library of the loaded version goes first.

    pynvml then gets that one: the loader takes what is there by the name (dlopen(3)).
    """
    from reconciler.nvidia import kept, versions

    loaded = versions.of_proc(read_text(versions.PROC / "version") or "")
    installed = versions.installed()
    if loaded and loaded != installed and (folder := kept.folder_for(loaded, installed)):
        import ctypes

        with suppress(OSError):
            ctypes.CDLL(str(folder / "lib/libnvidia-ml.so.1"), mode=ctypes.RTLD_GLOBAL)


def _gpu(nvml: Any, index: int) -> Gpu:
    device = nvml.nvmlDeviceGetHandleByIndex(index)
    memory = nvml.nvmlDeviceGetMemoryInfo(device)
    use = _if_known(nvml, lambda: nvml.nvmlDeviceGetUtilizationRates(device).gpu)
    heat = _if_known(nvml, lambda: nvml.nvmlDeviceGetTemperature(device, 0))
    return Gpu(
        index,
        _text(nvml.nvmlDeviceGetUUID(device)),
        int(nvml.nvmlDeviceGetMinorNumber(device)),
        _text(nvml.nvmlDeviceGetName(device)),
        int(memory.total),
        int(memory.used),
        use,
        heat,
        tuple(_processes(nvml, device)),
    )


def _processes(nvml: Any, device: Any) -> Iterator[GpuProcess]:
    """Those that compute and those that draw; who does both is counted once."""
    seen = dict[int, GpuProcess]()
    for ask in (
        nvml.nvmlDeviceGetComputeRunningProcesses,
        nvml.nvmlDeviceGetGraphicsRunningProcesses,
    ):
        for each in _if_known(nvml, lambda ask=ask: ask(device)) or ():  # type: ignore[misc]
            memory = each.usedGpuMemory
            seen.setdefault(each.pid, GpuProcess(each.pid, None if memory is None else int(memory)))
    yield from seen.values()


def _if_known(nvml: Any, ask: Callable[[], Any]) -> Any:
    try:
        return ask()
    except nvml.NVMLError:  # e.g. NOT_SUPPORTED on a GPU for desktops
        return None


def _text(value: str | bytes) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _in_child(work: Callable[[], Mapping[str, Any]], patience: float) -> Mapping[str, Any]:
    """What `work` returns in a child. One that can't even be killed (D state) is left behind.

    It holds nothing of ours by then, no lock above all.
    """
    reader, writer = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if child == 0:
        _work(work, writer)
    os.close(writer)
    raw, deadline = b"", time.monotonic() + patience
    with os.fdopen(reader, "rb", buffering=0) as stream:
        while ready := select.select([stream], [], [], max(0.0, deadline - time.monotonic()))[0]:
            chunk = stream.read(1 << 16)
            if not chunk:
                break
            raw += chunk
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0 if ready else os.WNOHANG)
    if not ready:
        raise LxcGpuError(
            "gpu-hangs",
            f"NVIDIA's driver did not answer within {patience:g} s.",
            LOOK,
            Remedy.PERSON,
        )
    try:
        fields: Mapping[str, Any] = json.loads(raw)
    except ValueError as error:
        raise LxcGpuError(
            "gpu-silent", "NVIDIA's driver ended the program that asked.", LOOK
        ) from error
    return fields


def _work(work: Callable[[], Mapping[str, Any]], writer: int) -> NoReturn:
    with suppress(BaseException):
        keep_only([writer])
        with os.fdopen(writer, "wb") as stream:
            stream.write(json.dumps(work()).encode())
    os._exit(0)
