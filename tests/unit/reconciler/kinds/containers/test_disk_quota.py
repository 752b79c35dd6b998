"""What goes to the kernel and comes from it; that nothing is wanted where nothing can be held."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from reconciler.disk import project_quota
from reconciler.disk.project_quota import QuotaUse
from reconciler.kinds.containers.disk_quota import DiskQuota, DiskQuotaKind
from reconciler.plan import Change
from state.view import Limits
from tests.unit.reconciler.views import with_

GIB = 1 << 30


def test_limits_are_in_blocks_of_1024_bytes() -> None:
    packed = project_quota.packed(50 * GIB)
    assert len(packed) == 72, "struct if_dqblk, with what its alignment adds"
    hard, soft, *_ = struct.unpack_from("=8Q", packed)
    assert (hard, soft) == (50 * GIB // 1024, 0)
    assert struct.unpack_from("=I", packed, 64) == (1,), "limits of space and nothing else"
    assert not any(project_quota.packed(0)[:64])


def test_use_is_in_bytes() -> None:
    said = struct.pack("=8QI4x", 2048, 0, 12345, 0, 0, 7, 0, 0, 63)
    assert project_quota.unpacked(said) == QuotaUse(used=12345, limit=2048 * 1024)


def test_nothing_is_wanted_without_a_limit_or_without_quotas(tmp_path: Path) -> None:
    kind = DiskQuotaKind()
    assert kind.desired(with_(containers=str(tmp_path))) == {}
    proc = with_(containers="/proc/self", limits=Limits(disk=GIB))
    assert kind.desired(proc) == {}, "proc has no project quotas"
    assert kind.observe(proc, ["lqchen"]).found == {}


def test_a_file_system_without_projects_says_none() -> None:
    descriptor = os.open("/proc/self", os.O_RDONLY)
    try:
        assert not project_quota.enforced(descriptor)
        assert project_quota.project_of(descriptor) == (0, False)
    finally:
        os.close(descriptor)


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (None, 50, "let lqchen's container take 50.0 GiB of the disk"),
        (40, 50, "let lqchen's container take 50.0 GiB of the disk"),
        (50, None, "let lqchen's container take as much of the disk as there is"),
    ],
)
def test_words(before: int | None, after: int | None, words: str) -> None:
    quotas = [None if n is None else DiskQuota(n * GIB) for n in (before, after)]
    assert DiskQuotaKind().describe(Change("lqchen", *quotas)) == words


def test_counting_alone_is_called_so() -> None:
    quota = DiskQuota(GIB)
    change = Change("lqchen", quota._replace(whole=False), quota)
    assert DiskQuotaKind().describe(change) == "count what is in lqchen's container"
