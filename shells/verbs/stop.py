"""`stop`: shut the container down."""

from __future__ import annotations

from reconciler.host.published import current_view
from reconciler.plan import Tell
from reconciler.requests import power
from shells.verbs import Asked, facts
from state.wire import messages


def answer(asked: Asked, tell: Tell) -> messages.Answer:
    """Stop it, if it runs; for an announcement, it stays one that ran, and comes back."""
    for_good = "announced" not in asked.options
    stopped, view = power.stop(asked.user, tell, for_good=for_good), current_view()
    what = "is shut down" if stopped else "was not running"
    text = f"Your container on {view.server} {what}."
    return messages.Answer(text, {**facts(view, asked.user, running=False), "was_running": stopped})
