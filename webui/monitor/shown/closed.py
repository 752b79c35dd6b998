"""When a server is closed: announced times in which its containers are shut down. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from state.model.documents import State
from state.model.fields import seconds_of


@dataclass(frozen=True)
class Closed:
    """A time in which a server's containers are shut down for maintenance."""

    begins: float
    ends: float
    text: str
    """Why."""


def closed_times(state: State, server: str) -> tuple[Closed, ...]:
    """All times in which `server` is closed, past and future."""
    return tuple(
        Closed(seconds_of(each.begins), seconds_of(each.until), each.text)
        for each in state.announcements.values()
        if each.stop and each.begins is not None and each.concerns(server)
    )


def closed_now(times: Iterable[Closed], now: float) -> Closed | None:
    """The present one of `times`, the last to end if there are several; None: it is open."""
    held = [each for each in times if each.begins <= now < each.ends]
    return max(held, key=lambda each: each.ends, default=None)
