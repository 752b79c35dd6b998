"""Records of the history: points of plots; what people used, by week."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Point:
    """A server's means over one step of a plot; None: it wasn't heard then."""

    at: float
    """When the step began, in seconds since the epoch."""
    cpu: float | None = None
    """Percent."""
    memory: float | None = None
    """Percent in use."""
    gpu: float | None = None
    """The mean utilisation of all GPUs in percent."""
    held: float | None = None
    """The percentage of GPUs that were held."""


@dataclass(frozen=True)
class Used:
    """What one user used of one server in one week, while the server was heard."""

    week: str
    """ISO 8601, UTC: 2026-W47."""
    server: str
    user: str
    gpu_hours: float
    """Hours x GPUs held. A GPU that several users hold counts in equal parts."""
    gpu_busy_hours: float
    """Hours x GPUs held x utilisation."""
    gpu_memory_gib_hours: float
    memory_gib_hours: float
    cpu_hours: float
    gpu_reserved_hours: float = 0.0
    gpu_reserved_unused_hours: float = 0.0
    """Hours x GPUs that the user had reserved and didn't hold."""


@dataclass(frozen=True)
class Heard:
    """For how much of a week a server was heard. Of the rest, nothing is known."""

    week: str
    server: str
    hours: float
    gpu_hours: float
    """Hours x GPUs of the server: what could have been held."""
