"""Turns bare hosts into a fleet: the web server, the GPU servers, the state repository."""

from __future__ import annotations

from laboratory.hosts import Lab
from laboratory.progress import Progress


def wire(lab: Lab, progress: Progress) -> None:
    """Set up what runs on the hosts; called by every `up`, so it must not mind being repeated."""
