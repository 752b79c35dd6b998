"""Has what this process does counted, and limited, with all else that a user has on the server."""

from __future__ import annotations

import os
import pwd
import signal
import time
from pathlib import Path

from reconciler.host.journal import event
from reconciler.host.slices import slice_of
from state import bus
from state.bus import Variant
from state.errors import LxcGpuError

PATIENCE = 1.0
"""Seconds until it is where systemd said that it would put it: usually none."""


def charge(account: str, unit: str = "") -> None:
    """Move this process, and what it starts from now on, into a scope in the account's slice.

    The scope, with whatever is left in it, ends with `unit`, the service that this process is of.
    Where that can't be done, the limits of that service hold; the journal says so.
    """
    try:
        uid = pwd.getpwnam(account).pw_uid
    except KeyError:
        return  # nobody has an account yet, or any more: the verb says so
    scope = f"lxc-gpu-work-{os.getpid()}.scope"
    properties = [
        ("PIDs", Variant("au", [os.getpid()])),
        ("Slice", Variant("s", slice_of(uid))),
        ("Description", Variant("s", f"Work of lxc-gpu for {account}")),
        ("CollectMode", Variant("s", "inactive-or-failed")),
        ("KillSignal", Variant("i", signal.SIGKILL)),
        ("Delegate", Variant("b", True)),  # who takes too much memory is killed alone
        *([("BindsTo", Variant("as", [unit]))] if unit else []),
    ]
    given: bus.Values = (scope, "fail", properties, [])
    try:
        bus.called(bus.manager("StartTransientUnit", "ssa(sv)a(sa(sv))", given))
        _wait_for(scope)
    except LxcGpuError as error:
        event("not-charged", account=account, why=error.message)


def _wait_for(scope: str) -> None:
    until = time.monotonic() + PATIENCE
    while f"/{scope}" not in Path("/proc/self/cgroup").read_text():
        if time.monotonic() > until:
            raise LxcGpuError("system", f"systemd did not put it into {scope}.")
        time.sleep(0.001)
