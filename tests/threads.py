"""Threads that can't be had, and waiting for those that can."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
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


def wait_until(held: Callable[[], object], seconds: float = 30) -> None:
    """Wait until something holds; AssertionError if it doesn't within some seconds."""
    deadline = time.monotonic() + seconds
    while not held():
        assert time.monotonic() < deadline, f"not within {seconds:g} s"
        time.sleep(0.02)
