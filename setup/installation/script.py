"""How the set-up scripts run: as root, alone on the machine, with errors for people."""

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
"""Root's folder, and outside of what `--undo` removes."""


def run_script(name: str, machine: str, work: Callable[[Steps], None]) -> int:
    """Do `work` as the script `name`, which sets up a `machine`; the exit status."""
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
    """Two set-ups at once would remove what the other is making."""
    descriptor = os.open(LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise LxcGpuError(
            "setup-busy",
            "Another set-up is at work on this machine; this one changed nothing.",
            "Run it again when that one has ended.",
        ) from error
    finally:
        os.close(descriptor)
