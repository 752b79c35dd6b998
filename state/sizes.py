"""Bytes, as people read them."""

from __future__ import annotations


def size(number: float | None) -> str:
    """Bytes for people, in powers of 1024; `-` if unknown."""
    if number is None:
        return "-"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} TiB"
