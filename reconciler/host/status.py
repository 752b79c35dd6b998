"""The result of the last round on this server: /var/lib/lxc-gpu/status.json."""

from __future__ import annotations

from reconciler.host import places
from state.files import read_text, write_file
from state.wire import messages


def write_status(report: messages.Report) -> None:
    """Keep the report of a whole round."""
    write_file(places.STATUS, messages.encode(report))


def read_status() -> messages.Report | None:
    """The report of the last round; None if there was none, or it can't be read."""
    text = read_text(places.STATUS)
    try:
        report = messages.decode(text) if text else None
    except messages.BadMessageError:
        return None
    return report if isinstance(report, messages.Report) else None
