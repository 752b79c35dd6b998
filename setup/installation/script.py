"""Runs the set-up scripts: as root, one at a time, with errors for people."""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from installation.steps import Steps, require_root, supported_release
from state.errors import LxcGpuError

LOCK = Path("/run/lxc-gpu-setup.lock")
"""In a folder of root's, and not removed by `--undo`."""


def run_script(name: str, machine: str, work: Callable[[Steps], None]) -> int:
    """Do `work` as the script `name`, which sets up a `machine`. The exit status."""
    try:
        require_root(name)
        with _alone():
            print(f"{machine} on {supported_release()}:", flush=True)
            work(Steps())
    except LxcGpuError as error:
        print(f"{name}: {error}", file=sys.stderr)
        if error.details:
            print(error.details, file=sys.stderr)
        return 1
    except OSError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 1
    return 0


@contextmanager
def _alone() -> Iterator[None]:
    """Let only one set-up run at a time: two would remove what the other makes."""
    descriptor = os.open(LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise LxcGpuError(
            "setup-busy",
            "Another set-up is running on this machine. This one changed nothing.",
            "Run it again when the other has ended.",
        ) from error
    finally:
        os.close(descriptor)
