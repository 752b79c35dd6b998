"""Converts stored days to weeks (ISO 8601, UTC), and bytes and seconds to GiB and hours."""

from __future__ import annotations

import re
from datetime import date, timedelta

from webui.monitor.past.records import Heard, Used
from webui.monitor.past.store import Store

HOUR = 3600.0
GIB_HOUR = 2**30 * HOUR

_WEEK = re.compile(r"(\d{4})-W(\d{2})", re.ASCII)


def week_of(day: str) -> str:
    """The week of a day: 2026-11-22 is in 2026-W47."""
    year, week, _ = date.fromisoformat(day).isocalendar()
    return f"{year:04}-W{week:02}"


def days_of(week: str) -> tuple[str, str] | None:
    """The Monday of `week` and that of the next one; None if `week` isn't one."""
    found = _WEEK.fullmatch(week)
    try:
        first = date.fromisocalendar(int(found[1]), int(found[2]), 1) if found else None
        return None if first is None else (first.isoformat(), str(first + timedelta(days=7)))
    except (ValueError, OverflowError):
        return None


def used(store: Store, week: str, user: str | None = None) -> tuple[Used, ...]:
    """What was used in `week`, by server and user; None: by all users."""
    days = days_of(week)
    rows = store.use(*days, user) if days else []
    return tuple(
        Used(
            week,
            row.server,
            row.user,
            gpu_hours=row.usage.gpu / HOUR,
            gpu_busy_hours=row.usage.gpu_busy / HOUR,
            gpu_memory_gib_hours=row.usage.gpu_memory / GIB_HOUR,
            memory_gib_hours=row.usage.memory / GIB_HOUR,
            cpu_hours=row.usage.cpu / HOUR,
            gpu_reserved_hours=row.usage.reserved / HOUR,
            gpu_reserved_unused_hours=row.usage.unused / HOUR,
        )
        for row in rows
    )


def heard(store: Store, week: str) -> tuple[Heard, ...]:
    """For how much of `week` each server was heard."""
    days = days_of(week)
    rows = store.heard(*days) if days else []
    return tuple(Heard(week, row.server, row.seconds / HOUR, row.gpus / HOUR) for row in rows)
