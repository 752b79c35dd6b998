"""Which GPUs somebody gets: those of their container, the ones that nobody uses first."""

from __future__ import annotations

from dataclasses import replace

from reconciler.requests.reserving import ServerGpus
from tests.unit.reconciler.views import RESIDENT, with_

UUIDS = ("GPU-a", "GPU-b", "GPU-c", "GPU-d")


def test_only_those_that_the_container_sees() -> None:
    gpus = ServerGpus(UUIDS)
    assert gpus.of(with_(), "lqchen") == UUIDS
    some = with_(residents={"lqchen": replace(RESIDENT, gpus=("3", "GPU-b", "GPU-gone"))})
    assert gpus.of(some, "lqchen") == ("GPU-b", "GPU-d")


def test_ones_own_first_then_those_that_nobody_uses() -> None:
    users = {"GPU-a": frozenset({"ann"}), "GPU-b": frozenset({""}), "GPU-d": frozenset({"lqchen"})}
    gpus = ServerGpus(UUIDS, users)
    assert gpus.best_first(UUIDS, "lqchen") == ("GPU-d", "GPU-c", "GPU-a", "GPU-b")
    assert ServerGpus(UUIDS).best_first(UUIDS, "lqchen") == UUIDS
