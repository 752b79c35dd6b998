"""Says which systems are to be ready for the next users, and wakes what makes them.

`reconciler.rounds.make_spares` makes them: it loads much that a round doesn't need.
"""

from __future__ import annotations

import pwd
import time
from pathlib import Path

from reconciler.disk import subvolumes
from reconciler.disk.free_space import free_space
from reconciler.host import marker
from reconciler.host.journal import event
from reconciler.host.places import SPARES_ACCOUNT
from reconciler.spares import notes, store
from reconciler.spares.decision import Readiness, Situation, Todo, readiness, todo
from reconciler.spares.notes import Notes
from reconciler.systems.raw_support import raw_support
from reconciler.systems.template_choice import in_use
from state import command
from state.errors import LxcGpuError
from state.view import View

UNIT = "lxc-gpu-spares.service"


def wake(view: View) -> None:
    """Start the service if there is anything to do, without waiting. Errors go to the journal only.

    That the containers' disk is away is reported by rounds.
    """
    try:
        if (view.spares or store.names(view)) and look(view)[1]:
            command.run(["systemctl", "start", "--no-block", UNIT], check=False)
    except (LxcGpuError, OSError) as error:
        if not (isinstance(error, LxcGpuError) and error.code.startswith("containers-")):
            event("spare-failed", why=str(error))


def look(view: View) -> tuple[Notes, Todo]:
    """The notes, and what is to be done. LxcGpuError if the containers' disk is away."""
    known = notes.read_notes()
    return known, todo(known, situation(view))


def situation(view: View) -> Situation:
    """What there is now. LxcGpuError if the containers' disk is away."""
    if not marker.check(view):
        return Situation({}, 0, frozenset(), 0, shares=False, at_once=False, now=time.time())
    kernel = raw_support(view)
    refused = kernel.why_not and kernel.answered  # what is ready outlasts a full or a slow disk
    stamps = {name: notes.stamp_now(name) for name in in_use(view)}
    there = store.names(view)
    return Situation(
        archives={name: stamp for name, stamp in stamps.items() if stamp is not None},
        count=view.spares if view.spare_subid and not refused else 0,
        there=there,
        free=free_space(store.store(view).parent).size,
        shares=store.shares_blocks(view),
        at_once=subvolumes.is_on_btrfs(Path(view.containers)),
        now=time.time(),
    )


def ready(view: View) -> tuple[Readiness, ...]:
    """How many spares of each template are ready. LxcGpuError or OSError if that can't be read."""
    return readiness(notes.read_notes(), situation(view))


def check_account() -> None:
    """LxcGpuError if set-up didn't make the account."""
    try:
        pwd.getpwnam(SPARES_ACCOUNT)
    except KeyError as error:
        raise LxcGpuError(
            "no-account",
            f"There is no account {SPARES_ACCOUNT}, so no system can be made ready.",
            "Sysadmin: `setup/gpu-server` makes it.",
        ) from error
