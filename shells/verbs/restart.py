"""`restart`: stop, then start."""

from __future__ import annotations

from reconciler.plan import Tell
from reconciler.requests import power
from shells.verbs import Asked, start
from state.wire import messages


def answer(asked: Asked, tell: Tell) -> messages.Answer:
    """The answer of the start."""
    power.stop(asked.user, tell, for_good=False)
    return start.answer(asked, tell)
