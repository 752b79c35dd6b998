"""The calls of NVML, by pynvml, for a child (`reconciler.children.answering`): each may hang."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from state.files import read_text

NO_PYNVML = -1
"""An error code of our own, besides those of nvml.h."""
_ENABLED = 1
"""NVML_DEVICE_MIG_ENABLE."""
_MILLI = 1000


class Query:
    """Answers what all GPUs do: plain JSON, for `nvml.reading`. Keeps NVML open in between."""

    def __init__(self) -> None:
        self._open = False

    def __call__(self, question: object) -> dict[str, Any]:
        """The answer to any question."""
        try:
            import pynvml
        except ImportError as error:
            return {"error": NO_PYNVML, "text": str(error)}
        try:
            if not self._open:
                _load_what_fits()
                pynvml.nvmlInit()
                self._open = True
            return _all(pynvml)
        except pynvml.NVMLError as error:
            return {"error": error.value, "text": str(error)}


def _load_what_fits() -> None:
    """Between an upgrade and the reboot, the kept library of the loaded version goes first.

    pynvml then gets that one: the loader takes what is there by the name (dlopen(3)).
    """
    from reconciler.nvidia import versions

    loaded = versions.of_proc(read_text(versions.PROC / "version") or "")
    installed = versions.installed()
    if not loaded or loaded == installed:
        return
    from reconciler.nvidia import kept

    if folder := kept.folder_for(loaded, installed):
        import ctypes

        with suppress(OSError):
            ctypes.CDLL(str(folder / "lib/libnvidia-ml.so.1"), mode=ctypes.RTLD_GLOBAL)


def _all(nvml: Any) -> dict[str, Any]:
    """One that is lost takes nothing from the others, unless none is left."""
    gpus, lost = list[dict[str, Any]](), list[dict[str, Any]]()
    for index in range(nvml.nvmlDeviceGetCount()):
        try:
            gpus.append(_gpu(nvml, index))
        except nvml.NVMLError as error:
            if error.value == nvml.NVML_ERROR_UNINITIALIZED:
                raise
            lost.append({"index": index, "text": str(error), "error": error.value})
    if lost and not gpus:
        return {"error": lost[0]["error"], "text": lost[0]["text"]}
    return {"driver": _text(nvml.nvmlSystemGetDriverVersion()), "gpus": gpus, "lost": lost}


def _gpu(nvml: Any, index: int) -> dict[str, Any]:
    device = nvml.nvmlDeviceGetHandleByIndex(index)
    memory = _memory(nvml, device)
    parts = list(_parts(nvml, device))

    def known(ask: Callable[[Any], Any]) -> Any:
        return _if_known(nvml, lambda: ask(device))

    power, limit = known(nvml.nvmlDeviceGetPowerUsage), known(nvml.nvmlDeviceGetEnforcedPowerLimit)
    return {
        "index": index,
        "uuid": _text(nvml.nvmlDeviceGetUUID(device)),
        "minor": int(nvml.nvmlDeviceGetMinorNumber(device)),
        "name": _text(nvml.nvmlDeviceGetName(device)),
        "memory_total": int(memory.total),
        "memory_used": int(memory.used),
        "utilisation": known(lambda of: nvml.nvmlDeviceGetUtilizationRates(of).gpu),
        "temperature": known(lambda of: nvml.nvmlDeviceGetTemperature(of, 0)),
        "power": None if power is None else power / _MILLI,
        "power_limit": None if limit is None else limit / _MILLI,
        "mig": [_part(nvml, part) for part in parts],
        "processes": _processes(nvml, [device, *parts]),
    }


def _memory(nvml: Any, device: Any) -> Any:
    """What it has and what is used of it, as nvidia-smi counts: without what the driver keeps.

    Drivers before 510 don't tell the two apart (nvml.h, nvmlMemory_v2_t).
    """
    apart = _if_known(
        nvml, lambda: nvml.nvmlDeviceGetMemoryInfo(device, version=nvml.nvmlMemory_v2)
    )
    return apart or nvml.nvmlDeviceGetMemoryInfo(device)


def _parts(nvml: Any, device: Any) -> Iterator[Any]:
    """The MIG instances; places without one are skipped."""
    mode = _if_known(nvml, lambda: nvml.nvmlDeviceGetMigMode(device))
    if mode and mode[0] == _ENABLED:
        for place in range(nvml.nvmlDeviceGetMaxMigDeviceCount(device)):
            with suppress(nvml.NVMLError):
                yield nvml.nvmlDeviceGetMigDeviceHandleByIndex(device, place)


def _part(nvml: Any, part: Any) -> dict[str, Any]:
    memory = _memory(nvml, part)
    return {
        "uuid": _text(nvml.nvmlDeviceGetUUID(part)),
        # "NVIDIA A100-SXM4-40GB MIG 1g.5gb"
        "name": _text(nvml.nvmlDeviceGetName(part)).rpartition("MIG ")[2],
        "memory_total": int(memory.total),
        "memory_used": int(memory.used),
    }


def _processes(nvml: Any, devices: list[Any]) -> list[dict[str, int | None]]:
    """Those that compute and those that draw; who does both, or is told of twice, counts once.

    With MIG, only root is told of a GPU's processes by the GPU; anybody is, by its parts.
    """
    seen = dict[int, int | None]()
    whole, *parts = devices
    for device in parts or [whole]:
        here = dict[int, int | None]()
        for ask in (
            nvml.nvmlDeviceGetComputeRunningProcesses,
            nvml.nvmlDeviceGetGraphicsRunningProcesses,
        ):
            for each in _if_known(nvml, lambda ask=ask, of=device: ask(of)) or ():  # type: ignore[misc]
                memory = each.usedGpuMemory
                here.setdefault(each.pid, None if memory is None else int(memory))
        for pid, memory in here.items():
            known = seen.get(pid)
            seen[pid] = memory if known is None else known + (memory or 0)
    return [{"pid": pid, "memory": memory} for pid, memory in seen.items()]


def _if_known(nvml: Any, ask: Callable[[], Any]) -> Any:
    try:
        return ask()
    except nvml.NVMLError as error:  # e.g. NOT_SUPPORTED on a GPU for desktops
        if error.value in (nvml.NVML_ERROR_GPU_IS_LOST, nvml.NVML_ERROR_UNINITIALIZED):
            raise
        return None


def _text(value: str | bytes) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
