"""What we ask of NVML, and what it answered on a server with an H100, driver 580.159.04.

The UUID is another one. Four programs computed on it: two in a container, one of their
owner's account on the server, one of root's; `nvidia-smi` said 5014 MiB of 81559.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

from reconciler.load.gpus import loads
from reconciler.load.on_gpus import is_free
from reconciler.nvidia import nvml, query

UUID = "GPU-5a1bd0a3-9d4e-4d12-8b5e-2f6c1c6f0e01"
TOTAL, KEPT = 85_520_809_984, 503_316_480
"""Bytes: of memory, and what the driver keeps for itself."""
RUNNING = {1883: 2_690_646_016, 1884: 1_080_033_280, 1899: 648_019_968, 1898: 677_380_096}
USED = 5_257_101_312
"""More than its programs have by its own words."""


class Recorded:
    """An NVML that answers as that one did; errors, names and numbers are pynvml's own."""

    def __init__(self, used: int, running: dict[int, int], *, tells_apart: bool = True) -> None:
        self._used, self._tells_apart = used, tells_apart
        self.nvmlDeviceGetComputeRunningProcesses = self._says(
            [SimpleNamespace(pid=pid, usedGpuMemory=memory) for pid, memory in running.items()]
        )
        self.nvmlDeviceGetGraphicsRunningProcesses = self._says([])
        self.nvmlDeviceGetCount = lambda: 1
        self.nvmlSystemGetDriverVersion = lambda: "580.159.04"
        self.nvmlDeviceGetHandleByIndex = self._says("the device")
        self.nvmlDeviceGetMigMode = self._says([0, 0])
        self.nvmlDeviceGetUUID = self._says(UUID)
        self.nvmlDeviceGetMinorNumber = self._says(0)
        self.nvmlDeviceGetName = self._says("NVIDIA H100 80GB HBM3")
        self.nvmlDeviceGetUtilizationRates = self._says(SimpleNamespace(gpu=100 if used else 0))
        self.nvmlDeviceGetTemperature = self._says(54)
        self.nvmlDeviceGetPowerUsage = self._says(410_514)
        self.nvmlDeviceGetEnforcedPowerLimit = self._says(700_000)

    def __getattr__(self, name: str) -> Any:
        return getattr(pynvml, name)

    def _says(self, answer: object) -> Callable[..., Any]:
        return lambda *_: answer

    def nvmlDeviceGetMemoryInfo(self, device: object, version: int | None = None) -> Any:  # noqa: N802
        free = TOTAL - KEPT - self._used
        if version is None:  # what the driver keeps counts as used
            return SimpleNamespace(total=TOTAL, free=free, used=KEPT + self._used)
        assert version == pynvml.nvmlMemory_v2
        if not self._tells_apart:  # as pynvml says where the library lacks a function
            raise pynvml.NVMLError(pynvml.NVML_ERROR_FUNCTION_NOT_FOUND)
        return SimpleNamespace(total=TOTAL, reserved=KEPT, free=free, used=self._used)


def read(recorded: Recorded) -> nvml.Reading:
    """Our reading of these answers, through the pipe that it takes."""
    return nvml.reading(json.loads(json.dumps(query._all(recorded))))


def test_a_busy_one() -> None:
    reading = read(Recorded(USED, RUNNING))
    (gpu,) = reading.gpus
    assert reading.driver == "580.159.04"
    assert reading.problem is None
    assert gpu == nvml.Gpu(
        0, UUID, 0, "NVIDIA H100 80GB HBM3", TOTAL, USED, 100, 54, 410.514, 700.0, (),
        tuple(nvml.GpuProcess(*each) for each in RUNNING.items()),
    )  # fmt: skip
    assert gpu.memory_used >> 20 == 5013, "what nvidia-smi says, which rounds up"
    (load,) = loads(
        reading.gpus, {1883: "bob", 1884: "bob", 1898: "bob", 1899: "system"}.__getitem__
    )
    assert [(user.user, user.memory) for user in load.users] == [
        ("bob", sum(RUNNING.values()) - RUNNING[1899]), ("system", RUNNING[1899])]  # fmt: skip
    assert not is_free(gpu)


@pytest.mark.parametrize("tells_apart", [True, False])
def test_one_that_nobody_uses(tells_apart: bool) -> None:
    """Before 510, a driver counts what it keeps for itself as used."""
    (gpu,) = read(Recorded(0, {}, tells_apart=tells_apart)).gpus
    assert gpu.memory_used == (0 if tells_apart else KEPT)
    assert is_free(gpu)
