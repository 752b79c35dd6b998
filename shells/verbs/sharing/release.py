"""`release`: gives back what is left of a reservation."""

from __future__ import annotations

from reconciler.plan import Tell
from reconciler.requests import reserving
from shells.verbs import VerbRequest
from shells.verbs.sharing import words
from state.wire import messages


def answer(asked: VerbRequest, tell: Tell) -> messages.Answer:
    """Release the named reservations; without a name, the only one."""
    done = reserving.release(asked.user, asked.options.get("what", ""))
    return messages.Answer(words.released(done), words.facts(done))
