"""Threads that can't be had."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

NO_ADDRESSES = 1 << 60
"""Bytes of a stack that no machine has the addresses for."""


@contextmanager
def none_to_be_had() -> Iterator[None]:
    """No thread can be started meanwhile, as when a unit is at its TasksMax: the kernel says no."""
    before = threading.stack_size(NO_ADDRESSES)
    try:
        yield
    finally:
        threading.stack_size(before)
