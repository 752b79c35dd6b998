"""`reserve`: reserves GPUs, extends a reservation, or hands one over."""

from __future__ import annotations

from reconciler.plan import Tell
from reconciler.requests import reserving
from reconciler.reservations import parsing as understood
from shells.verbs import VerbRequest
from shells.verbs.sharing import words
from state.errors import LxcGpuError
from state.wire import messages

_ALONE = ("extend", "to")


def answer(asked: VerbRequest, tell: Tell) -> messages.Answer:
    """Do what the options say."""
    user, options = asked.user, asked.options
    alone = [name for name in _ALONE if name in options]
    if alone and set(options) - {alone[0], "what"}:
        raise LxcGpuError(
            "usage", f"`--{alone[0]}` can't be combined with other options.", "Try `help reserve`."
        )
    if "extend" in options:
        done = reserving.extend(user, f"{options['extend']} {options.get('what', '')}")
        return messages.Answer(words.extended(done, done.view.server), words.facts(done))
    if "to" in options:
        to, *named = f"{options['to']} {options.get('what', '')}".split()
        done = reserving.hand_over(user, to, " ".join(named))
        return messages.Answer(words.handed_over(done, to), words.facts(done))
    if not options:
        raise LxcGpuError(
            "usage", "How many GPUs, and for how long?", f"Like this: {understood.EXAMPLE}."
        )
    done = reserving.reserve(user, options)
    return messages.Answer(words.reserved(done, user), words.facts(done))
