"""Keeps systems ready for the next registrations: lxc-gpu-spares.service runs this, as root."""

from __future__ import annotations

from collections.abc import Sequence

from reconciler.host.journal import event
from reconciler.host.published import published_view
from reconciler.host.suspension import suspension
from reconciler.rounds.make_spares import keep
from state.errors import LxcGpuError


def main(argv: Sequence[str]) -> int:
    """Make missing spares, and remove those that aren't wanted. The exit status."""
    view = published_view()
    if view is None or suspension() is not None:  # before the first round no template is named
        return 0
    try:
        keep(view)
    except (LxcGpuError, OSError) as error:
        event("spare-failed", why=str(error))
        return 1
    return 0
