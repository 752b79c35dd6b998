"""Asks the root helper for a verb, and prints its answer: what the login shell mostly does."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence

from shells.helper.client import ask, ask_until_free
from shells.helper.request import OF_USERS, Request, ends_with_its_asker
from shells.terminal import Terminal
from shells.usage import Verb, as_typed, parse, without_json
from state.errors import LxcGpuError
from state.wire.messages import Answer, Question

PATIENCE = 20.0
"""Seconds that somebody who only looks waits for requests of their own to end."""
VERBS: dict[str, Verb] = {verb.value: verb for verb in OF_USERS}
UNCONFIRMED = 3
"""The exit status of what was not done because it needs a yes."""


def ask_for(verb: Verb, words: Sequence[str], terminal: Terminal) -> int:
    """Ask for it, and print the answer; the exit status. LxcGpuError if it wasn't done."""
    others, as_json = without_json(verb, words)
    return _ask(Request(verb, options=parse(verb, others)), terminal, as_json=as_json)


def _ask(request: Request, terminal: Terminal, *, as_json: bool) -> int:
    descriptor = _archive_end(request)
    if descriptor is None and ends_with_its_asker(request):
        answer = ask_until_free(request, terminal.progress, PATIENCE)  # a script looks at much
    else:
        answer = ask(request, terminal.progress, descriptor)
    if isinstance(answer, Question):
        confirmed = request._replace(options={**request.options, "confirm": answer.token})
        if terminal.agrees(answer.text):
            return _ask(confirmed, terminal, as_json=as_json)
        again = as_typed(request.verb, confirmed.options, as_json=as_json)
        terminal.note(
            f"{answer.text}\nNothing was done yet. To go on, type the same with its number:\n"
            f"  ssh {_here()}-manage {again}"
        )
        if as_json:
            terminal.result(_in_json({"question": answer.text, "confirm": answer.token}))
        return UNCONFIRMED
    if isinstance(answer, Answer):
        show = terminal.note if descriptor == sys.stdout.fileno() else terminal.result
        text = answer.text
        if "ics" in request.options:  # RFC 5545 wants it; no message has control characters
            text = text.replace("\n", "\r\n") + "\r"
        show(_in_json(answer.facts) if as_json else text)
    return 0


def _in_json(facts: Mapping[str, object]) -> str:
    return json.dumps(dict(facts), ensure_ascii=False)


def _here() -> str:
    from reconciler.host.config import read_server_config  # a question is rare

    return read_server_config().name


def _archive_end(request: Request) -> int | None:
    """What is lent to the root helper: where an archive comes from, or goes to."""
    for name, stream in (("from-stdin", sys.stdin), ("to-stdout", sys.stdout)):
        if name in request.options:
            if stream.isatty():
                raise LxcGpuError(
                    "usage",
                    f"`--{name}` is for a pipe or a file, not for a terminal.",
                    f"Try `help {request.verb}`.",
                )
            return stream.fileno()
    return None
