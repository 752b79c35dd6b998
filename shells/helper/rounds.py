"""Rounds that the root helper is asked for.

The round itself is a program of its own: the helper passes on what it says. However many ask, only
so many rounds run.
"""

from __future__ import annotations

import subprocess
import time

from reconciler.host import places
from reconciler.host.locks import lock, one_of
from reconciler.host.status import read_status
from reconciler.plan import Tell
from state import command
from state.errors import LxcGpuError, Remedy
from state.wire import messages

AT_ONCE = 3
"""Nudges whose rounds run at the same time: a key that was removed doesn't wait for the round that
unpacks somebody's container."""
_LOOK_EVERY = 0.2


def reconcile_together(tell: Tell) -> messages.Report:
    """The report of a round for everybody that begins after this was asked.

    Beyond `AT_ONCE`, one round waits to begin, and it serves all who asked before it did.
    """
    asked = time.time()
    with one_of("round", AT_ONCE) as free:
        if free:
            return reconcile(tell)
    tell(messages.Progress("waiting for other rounds to end"))
    with lock("round-waits"):
        while (shared := _of_round_since(asked)) is None:
            with one_of("round", AT_ONCE) as free:
                if free:
                    return reconcile(tell)
            time.sleep(_LOOK_EVERY)
        return shared


def _of_round_since(moment: float) -> messages.Report | None:
    """The report of a round for everybody that began after `moment`, and ended."""
    last = read_status()
    return last if last is not None and last.finished - last.seconds > moment else None


def reconcile(tell: Tell, only: str | None = None) -> messages.Report:
    """Run a round, for everybody or for one user, and return its report."""
    argv = [str(places.RECONCILE), *(["--user", only] if only else [])]
    end: messages.Message | None = None
    with command.started(argv, stdout=subprocess.PIPE, stderr=None) as child:
        assert child.stdout is not None  # noqa: S101
        for line in child.stdout:
            end = messages.decode(line)
            if isinstance(end, messages.Progress):
                tell(end)
    if isinstance(end, messages.Refusal):
        raise end.error()
    if not isinstance(end, messages.Report):
        raise LxcGpuError(
            "round-died",
            "The round ended without a report.",
            "Sysadmin: `journalctl -t lxc-gpu` says why; the next round goes on.",
            Remedy.RETRY,
        )
    return end
