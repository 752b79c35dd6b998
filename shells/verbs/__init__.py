"""What the root helper does for users: a module for each verb, with a function `answer(asked,
tell)`.

A module is loaded only for its verb, so no verb slows another down.
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
    """One checked request of a user."""

    user: str
    options: Mapping[str, str]
    descriptor: int | None = None
    """The file that the asker sent along, to read an archive from, to write one to, or to ask for a
    shell. It can be anything: a pipe, a file, a socket."""
    charged: Callable[[], None] = lambda: None
    """Has what is done from now on charged to the user. All verbs begin so but a start, which
    calls it, maybe again, before it does more than look."""


ROOMS: Mapping[Verb, str] = dict.fromkeys(
    (Verb.RESERVE, Verb.RESERVATIONS, Verb.RELEASE, Verb.NOTIFY), "sharing"
)
"""The rooms of verbs whose modules aren't in this one."""
Serve = Callable[[VerbRequest, Tell], messages.Answer | messages.Question]


def serve(verb: Verb, asked: VerbRequest, tell: Tell) -> messages.Answer | messages.Question:
    """Do what the user asked for. LxcGpuError if it can't be done."""
    room = f"shells.verbs.{ROOMS.get(verb, '')}".rstrip(".")
    answer: Serve = import_module(f"{room}.{verb}").answer
    return answer(asked, tell)


def facts(
    view: View, user: str, own: Sequence[Forward] | None, *, running: bool
) -> dict[str, object]:
    """Facts about a container for programs: part of every `--json`.

    `own`: the user's forwards (`forwards_of`).
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
    """The fact for how long nobody used the container; null if it doesn't count as idle."""
    return {"idle_seconds": None if seconds is None else round(seconds)}


def forwards_of(user: str) -> tuple[Forward, ...] | None:
    """The user's forwards; None if they can't be read, which rounds report."""
    try:
        return forwards.read().of.get(user, ())
    except LxcGpuError:
        return None
