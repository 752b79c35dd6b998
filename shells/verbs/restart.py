"""`restart`: stops the container, then starts it."""

from __future__ import annotations

from reconciler.host.published import current_view
from reconciler.plan import Tell
from reconciler.requests import power
from shells.verbs import VerbRequest, start
from state.wire import messages


def answer(asked: VerbRequest, tell: Tell) -> messages.Answer:
    """Stop and start. If a start would be refused now, nothing is shut down."""
    power.refuse_while_closed(current_view())
    power.stop(asked.user, tell, for_good=False)
    return start.answer(asked, tell)
