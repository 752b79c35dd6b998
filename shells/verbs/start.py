"""`start`: starts the container and says how to log in."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from reconciler.load.idleness import unused_for
from reconciler.nvidia import nodes
from reconciler.plan import Tell
from reconciler.requests import login, power
from reconciler.reservations import waiting
from reconciler.reservations.overview import overview
from shells.verbs import VerbRequest, facts, forwards_of, idle_facts, words
from shells.verbs.ports import line
from state.wire import messages


def answer(asked: VerbRequest, tell: Tell) -> messages.Answer:
    """Start it. Notes tell its owner what to mend inside.

    A start after an announcement doesn't wait for other work: many are started, and tried again in
    a minute.
    """
    started, why_not = _started(asked, tell)
    view, user = started.view, asked.user
    text = words.started(
        view, user, view.residents[user], was_running=started.was_running, why_not=why_not
    )
    now, own = time.time(), forwards_of(user)
    idle = unused_for(view, user) if started.was_running else None
    lines = [
        *(f"Note: {note}" for note in started.notes),
        text,
        *line(own),
        *words.announced(view),
        *overview(view, now).lines(user, [card.uuid for card in nodes.cards()]),
        *waiting.untold(user, now),
        *([] if idle is None else [words.last_used(view, user, idle)]),
    ]
    more = {
        "was_running": started.was_running,
        "notes": list(started.notes),
        "login_fails": list(why_not),
        **idle_facts(idle),
        **words.announced_facts(view),
    }
    return messages.Answer("\n".join(lines), {**facts(view, user, own, running=True), **more})


def _started(asked: VerbRequest, tell: Tell) -> tuple[power.Started, tuple[str, ...]]:
    """The start, and why a login would fail: looked into at the same time if it runs already."""
    wait = "announced" not in asked.options
    start = partial(power.start, asked.user, tell, wait=wait, works=asked.charged)
    if "quick" in asked.options:
        return start(), ()
    with login.Look(asked.user) as look:

        def runs(monitor: str) -> Callable[[], bool]:
            look.begin(monitor)
            return look.way_is_clear

        started = start(runs=runs)
        if started.notes or not started.was_running:
            look.begin()  # something was mended meanwhile
        return started, look.why_not()
