"""What the root helper does for users: one module a verb, with one function `answer(asked, tell)`.

A module is loaded when its verb is asked for, so none slows down another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module

from reconciler.network import forwards
from reconciler.network.forwards import Forward
from reconciler.plan import Tell
from shells.usage import Verb
from shells.verbs.ports import forward_facts
from state.errors import LxcGpuError
from state.view import View
from state.wire import messages


@dataclass(frozen=True)
class VerbRequest:
    """One request of a user, checked: whose container, and how."""

    user: str
    options: Mapping[str, str]
    descriptor: int | None = None
    """What the asker sent along: to read an archive from, to write one to, to ask for a shell.
    Theirs: a pipe, a file, anything."""


ROOMS: Mapping[Verb, str] = dict.fromkeys(
    (Verb.RESERVE, Verb.RESERVATIONS, Verb.RELEASE, Verb.NOTIFY), "sharing"
)
"""Of verbs whose modules stand in a room of their own."""
Serve = Callable[[VerbRequest, Tell], messages.Answer | messages.Question]


def serve(verb: Verb, asked: VerbRequest, tell: Tell) -> messages.Answer | messages.Question:
    """Do what was asked. LxcGpuError if it can't be done."""
    room = f"shells.verbs.{ROOMS.get(verb, '')}".rstrip(".")
    answer: Serve = import_module(f"{room}.{verb}").answer
    return answer(asked, tell)


def facts(
    view: View, user: str, own: Sequence[Forward] | None, *, running: bool
) -> dict[str, object]:
    """What a program may want to know of a container: part of every `--json`.

    `own` are the user's ports (`forwards_of`).
    """
    resident = view.residents[user]
    return {
        "server": view.server,
        "user": user,
        "running": running,
        "host": view.address,
        "port": resident.port,
        "address": resident.address,
        "forwards": None if own is None else [forward_facts(view, f) for f in own],
    }


def idle_facts(seconds: float | None) -> dict[str, object]:
    """For how long nobody used the container; None where that is not worth a word."""
    return {"idle_seconds": None if seconds is None else round(seconds)}


def forwards_of(user: str) -> tuple[Forward, ...] | None:
    """The ports beyond ssh; None if they can't be read, which rounds report."""
    try:
        return forwards.read().of.get(user, ())
    except LxcGpuError:
        return None
