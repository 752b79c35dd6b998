"""When a whole server is closed: times in which nobody can reserve a GPU."""

from __future__ import annotations

from state.view import View


def closed(view: View) -> tuple[tuple[float, float, str], ...]:
    """From when until when, in seconds since the epoch, and why, in words for people.

    In the order of their beginnings, those that are over included; some may overlap.
    """
    return tuple((each.begins, each.ends, each.text) for each in view.announcements if each.stop)
