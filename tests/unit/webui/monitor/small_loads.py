"""Loads for tests."""

from __future__ import annotations

from typing import Any

from state.wire.server_load import CpuLoad, GpuLoad, GpuUser, MemoryLoad, ServerLoad, UserLoad

GIB = 2**30


def gpu(index: int, *users: str, busy: float | None = 50.0, memory: int = 10 * GIB) -> GpuLoad:
    held = tuple(GpuUser(user, memory) for user in users)
    used = memory * len(users)
    return GpuLoad(index, f"GPU-{index}", "NVIDIA A100", 80 * GIB, used, busy, users=held)


def load(
    server: str = "gpu17", *gpus: GpuLoad, users: tuple[UserLoad, ...] = (), **more: Any
) -> ServerLoad:
    cpu, memory = CpuLoad(20.0, 64), MemoryLoad(100 * GIB, 75 * GIB)
    fields = {"at": 0.0, "interval": 5.0, "cpu": cpu, "memory": memory, **more}
    return ServerLoad(server, gpus=gpus, users=users, **fields)
