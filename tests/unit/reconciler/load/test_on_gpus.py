"""Which GPUs are free for whom."""

from __future__ import annotations

from dataclasses import replace

from reconciler.load.on_gpus import free_for, of_model
from reconciler.nvidia.nvml import Gpu, GpuProcess
from reconciler.reservations.book import Reservation
from tests.unit.reconciler.views import RESIDENT, VIEW

SOON = 1000.0
GPU = Gpu(0, "GPU-a", 0, "NVIDIA A100-SXM4-40GB", 40 << 30, 0, 0, None, None, None, (), ())
OTHER = replace(GPU, index=1, uuid="GPU-b", minor=1, name="NVIDIA H100")
HERS = Reservation("r1", "ann", ("GPU-a",), 0, 9e9, 0)


def free(*gpus: Gpu, ahead: tuple[Reservation, ...] = (), model: str = "") -> list[str]:
    return [g.uuid for g in free_for(VIEW, "lqchen", gpus, ahead, SOON, model)]


def test_what_nobody_uses_or_reserved() -> None:
    assert free(GPU, OTHER) == ["GPU-a", "GPU-b"]
    assert free(replace(GPU, processes=(GpuProcess(7, None),)), OTHER) == ["GPU-b"]
    assert free(replace(GPU, utilisation=5), OTHER) == ["GPU-b"]
    assert free(replace(GPU, memory_used=5 << 30), OTHER) == ["GPU-b"]
    assert free(GPU, OTHER, ahead=(HERS,)) == ["GPU-b"]
    assert free(GPU, OTHER, ahead=(replace(HERS, user="lqchen"),)) == ["GPU-a", "GPU-b"]


def test_what_is_somebody_elses_soon_is_not_free() -> None:
    assert free(GPU, ahead=(replace(HERS, begins=SOON - 1),)) == []
    assert free(GPU, ahead=(replace(HERS, begins=SOON),)) == ["GPU-a"]


def test_only_those_in_sight_and_of_the_model() -> None:
    assert free(GPU, OTHER, model="h100") == ["GPU-b"]
    assert of_model((GPU, OTHER), "nvidia") == (GPU, OTHER)
    view = replace(VIEW, residents={"lqchen": replace(RESIDENT, gpus=("GPU-b",))})
    assert [g.uuid for g in free_for(view, "lqchen", (GPU, OTHER), (), SOON)] == ["GPU-b"]
