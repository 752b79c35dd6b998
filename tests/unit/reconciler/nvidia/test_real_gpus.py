"""The GPUs of this machine, as our reading and NVIDIA's own tool tell them. Skipped without any.

They ran on a machine with an H100, driver 580.159.04. Elsewhere, what was recorded there
(test_query.py) and a fake NVML (tests/lab/fake_nvml.c) stand in.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.children.answering import of_our_account
from reconciler.host import places
from reconciler.load.gpus import SUSPENDED, GpuSampler, loads
from reconciler.nvidia import nvml
from reconciler.nvidia.driver import loaded
from state.command import run

pytestmark = pytest.mark.skipif(
    not list(Path("/dev").glob("nvidia[0-9]*")) or shutil.which("nvidia-smi") is None,
    reason="this machine has no NVIDIA GPU",
)
FIELDS = "index,uuid,name,memory.total,memory.used,enforced.power.limit"


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
    for gpu, (*_, memory, used, limit) in zip(reading.gpus, told, strict=True):
        assert abs(gpu.memory_total / (1 << 20) - float(memory)) < 2
        assert 0 <= gpu.memory_used <= gpu.memory_total
        if not gpu.processes:
            assert gpu.memory_used / (1 << 20) == pytest.approx(float(used), abs=2)
        if limit[0].isdigit():
            assert gpu.power_limit == pytest.approx(float(limit), abs=0.02)
    assert reading.driver == (loaded() or reading.driver)


def children() -> set[int]:
    """Ours that ask NVML."""
    return {pid for pid, parent in of_our_account(nvml.NAME) if parent == os.getpid()}


def open_of_nvidias(pid: int) -> set[str]:
    """The driver's device files that a program has open."""
    opened = (str(each.readlink()) for each in Path(f"/proc/{pid}/fd").iterdir())
    return {path for path in opened if path.startswith("/dev/nvidia")}


def test_again_and_again_by_one_child(stream: GpuSampler, told: list[list[str]]) -> None:
    seen = set()
    for _ in range(3):
        stream.ask()
        view = stream.view(60)
        assert view.problem is None, view.problem
        seen |= children()
        assert [gpu.uuid for gpu in loads(view.gpus, lambda _: "system")] == [
            uuid for _, uuid, *_ in told
        ]
    assert len(seen) == 1


def test_who_suspends_the_server_can_exchange_the_driver(
    stream: GpuSampler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "SUSPENDED", tmp_path / "suspended.json")
    stream.ask()
    stream.view(60)
    (child,) = children()
    assert "/dev/nvidiactl" in open_of_nvidias(child)
    places.SUSPENDED.write_text("{}")
    stream.ask()
    assert stream.view(1).problem == SUSPENDED
    assert not children()
    places.SUSPENDED.unlink()
    stream.ask()
    assert stream.view(60).problem is None
