"""Says when a server is closed by announcements, so that nobody can reserve GPUs."""

from __future__ import annotations

from state.view import View


def closed(view: View) -> tuple[tuple[float, float, str], ...]:
    """Beginning and end, in seconds since the epoch, and the announcement's text.

    They are in the order of their beginnings. Some may be over, and some may overlap.
    """
    return tuple((each.begins, each.ends, each.text) for each in view.announcements if each.stop)
