"""Has what this process does counted, and limited, with all else that a user has on the server."""

from __future__ import annotations

import os
import pwd
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from reconciler.host.journal import event
from reconciler.host.slices import slice_of
from state import bus
from state.bus import Variant
from state.errors import LxcGpuError

PATIENCE = 1.0
"""Seconds until it is where systemd said that it would put it: usually none."""


class Charge:
    """Moves this process, and what it starts from then on, into a scope in the account's slice.

    The scope, with whatever is left in it, ends with `unit`, the service that this process is of.
    Where that can't be done, the limits of that service hold; the journal says so. What was asked
    for in a block has been done when it ends: systemd needs to find the process.
    """

    def __init__(self, account: str, unit: str = "") -> None:
        """No `account`: the work is nobody's."""
        self._account, self._unit = account, unit
        self._scope = f"lxc-gpu-work-{os.getpid()}.scope"
        self._asked: bus.Asked | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        asked, self._asked = self._asked, None
        if asked is not None:
            with self._noted():
                asked.answers()
                _wait_for(self._scope)

    def made(self) -> None:
        """Ask systemd to, and wait until it has."""
        with self:
            self.ask()

    def ask(self) -> None:
        """Ask systemd to, once, and go on."""
        try:
            uid = pwd.getpwnam(self._account).pw_uid
        except KeyError:
            return  # nobody has an account yet, or any more: the verb says so
        properties = [
            ("PIDs", Variant("au", [os.getpid()])),
            ("Slice", Variant("s", slice_of(uid))),
            ("Description", Variant("s", f"Work of lxc-gpu for {self._account}")),
            ("CollectMode", Variant("s", "inactive-or-failed")),
            ("KillSignal", Variant("i", signal.SIGKILL)),
            ("Delegate", Variant("b", True)),  # who takes too much memory is killed alone
            *([("BindsTo", Variant("as", [self._unit]))] if self._unit else []),
        ]
        given: bus.Values = (self._scope, "fail", properties, [])
        with self._noted():
            self._asked = bus.Asked(bus.manager("StartTransientUnit", "ssa(sv)a(sa(sv))", given))

    @contextmanager
    def _noted(self) -> Iterator[None]:
        try:
            yield
        except LxcGpuError as error:
            event("not-charged", account=self._account, why=error.message)


def _wait_for(scope: str) -> None:
    until = time.monotonic() + PATIENCE
    while f"/{scope}" not in Path("/proc/self/cgroup").read_text():
        if time.monotonic() > until:
            raise LxcGpuError("system", f"systemd did not put it into {scope}.")
        time.sleep(0.001)
