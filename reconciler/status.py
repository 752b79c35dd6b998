"""/var/lib/lxc-gpu/status.json: what the last round on this server came to."""

from __future__ import annotations

from reconciler import places
from state import wire
from state.files import read_text, write_file


def write_status(report: wire.Report) -> None:
    """Keep the report of a whole round."""
    write_file(places.STATUS, wire.encode(report))


def read_status() -> wire.Report | None:
    """The report of the last round; None if there was none, or it can't be read."""
    text = read_text(places.STATUS)
    try:
        report = wire.decode(text) if text else None
    except wire.BadMessageError:
        return None
    return report if isinstance(report, wire.Report) else None
