"""What the history keeps: points of plots, and what people used, by week."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Point:
    """A server's mean over one step of a plot; None: nothing was heard then."""

    at: float
    """When the step began, in seconds since the epoch."""
    cpu: float | None = None
    """Percent."""
    memory: float | None = None
    """Percent in use."""
    gpu: float | None = None
    """Percent utilisation, the mean of all GPUs."""
    held: float | None = None
    """Percent of the GPUs that somebody held."""


@dataclass(frozen=True)
class Used:
    """What one user used of one server in one week. Only what was heard counts."""

    week: str
    """ISO 8601, UTC: 2026-W47."""
    server: str
    user: str
    gpu_hours: float
    """Hours for which GPUs were held; a GPU that several hold is counted in equal parts."""
    gpu_busy_hours: float
    """The same, times the GPU's utilisation."""
    gpu_memory_gib_hours: float
    memory_gib_hours: float
    cpu_hours: float
    gpu_reserved_hours: float = 0.0
    gpu_reserved_unused_hours: float = 0.0
    """Hours for which GPUs were reserved and not held by whoever had reserved them."""


@dataclass(frozen=True)
class Heard:
    """How much of a week was heard of a server: the rest is a gap, not a zero."""

    week: str
    server: str
    hours: float
    gpu_hours: float
    """Hours x GPUs that there were: what could have been held."""
