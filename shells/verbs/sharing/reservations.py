"""`reservations`: shows who has reserved which GPUs until when, as a table or a calendar."""

from __future__ import annotations

from reconciler.plan import Tell
from reconciler.requests import reserving
from reconciler.reservations.calendar import calendar
from shells.verbs import VerbRequest
from shells.verbs.sharing import words
from state.wire import messages


def answer(asked: VerbRequest, tell: Tell) -> messages.Answer:
    """Show them; change nothing."""
    done = reserving.looked(asked.user)
    if "ics" in asked.options:
        text = calendar(done.view.server, done.reservations, done.now)
        lines = text.replace("\r\n", "\n").removesuffix(
            "\n"
        )  # the login shell ends each line like this again
        return messages.Answer(lines, words.facts(done))
    return messages.Answer(words.table(done, asked.user), words.facts(done))
