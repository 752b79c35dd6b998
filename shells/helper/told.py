"""`told ID...`: the page says which notices' mail was accepted."""

from __future__ import annotations

import time
from collections.abc import Mapping

from reconciler.notices import store
from state.errors import LxcGpuError
from state.wire.messages import Answer


def told(options: Mapping[str, str]) -> Answer:
    """Note it; ids that nobody knows any more don't matter. LxcGpuError if that can't be kept."""
    ids = options.get("ids", "").split()
    if not ids:
        raise LxcGpuError("usage", "`told` needs the ids of notices.")
    store.accept(frozenset(ids), time.time())
    return Answer("noted")
