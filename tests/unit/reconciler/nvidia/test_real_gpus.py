"""The GPUs of this machine, as our reading and NVIDIA's own tool tell them. Skipped without any.

Elsewhere, a reading composed by hand (test_load.py) and a fake NVML (tests/lab/fake_nvml.c) stand
in.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.load.gpus import GpuSampler, loads
from reconciler.nvidia import nvml
from reconciler.nvidia.driver import loaded
from state.command import run

pytestmark = pytest.mark.skipif(
    not list(Path("/dev").glob("nvidia[0-9]*")) or shutil.which("nvidia-smi") is None,
    reason="this machine has no NVIDIA GPU",
)
FIELDS = "index,uuid,name,memory.total,enforced.power.limit"


@pytest.fixture(scope="module")
def told() -> list[list[str]]:
    """What nvidia-smi says, a list for each GPU."""
    words = ["nvidia-smi", f"--query-gpu={FIELDS}", "--format=csv,noheader,nounits"]
    return [line.split(", ") for line in run(words).stdout.splitlines()]


@pytest.fixture
def stream() -> Iterator[GpuSampler]:
    gpus = GpuSampler()
    yield gpus
    gpus.close()


def test_one_reading(told: list[list[str]]) -> None:
    reading = nvml.read(patience=60)
    assert [(str(gpu.index), gpu.uuid, gpu.name) for gpu in reading.gpus] == [
        (index, uuid, name) for index, uuid, name, *_ in told
    ]
    for gpu, (*_, memory, limit) in zip(reading.gpus, told, strict=True):
        assert abs(gpu.memory_total / (1 << 20) - float(memory)) < 2
        assert 0 <= gpu.memory_used <= gpu.memory_total
        if limit[0].isdigit():
            assert gpu.power_limit == pytest.approx(float(limit), abs=0.02)
    assert reading.driver == (loaded() or reading.driver)


def test_again_and_again_by_one_child(stream: GpuSampler, told: list[list[str]]) -> None:
    children = set()
    for _ in range(3):
        stream.ask()
        view = stream.view(60)
        assert view.problem is None, view.problem
        assert stream._child._child
        child, _ = stream._child._child
        children.add(child.pid)
        assert [gpu.uuid for gpu in loads(view.gpus, lambda _: "system")] == [
            uuid for _, uuid, *_ in told
        ]
    assert len(children) == 1
