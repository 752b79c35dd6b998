"""`status`: whether the container runs, and what it uses."""

from __future__ import annotations

from dataclasses import asdict

from reconciler import power
from reconciler.newest import current_view
from reconciler.plan import Tell
from reconciler.standing import standing
from reconciler.undertaking import Undertaking, last
from shells import messages
from shells.ports_in_words import line
from shells.verbs import Asked, facts, forwards_of
from state import wire


def answer(asked: Asked, tell: Tell) -> wire.Answer:
    """Look, and change nothing."""
    view, user = current_view(), asked.user
    resident = power.resident_of(view, user)
    now = power.power_of(user)
    lines = [f"Your container on {view.server}: {'running' if now.running else 'stopped'}"]
    if now.running:
        lines += [
            f"  since    {now.since}",
            f"  memory   {messages.size(now.memory)}",
            f"  tasks    {'-' if now.tasks is None else now.tasks}",
        ]
    lines += [f"  address  {resident.address} (inside this server)"]
    there, work = standing(view, user), last(user)
    lines += [] if work is None else [f"  files    {_in_words(work)}"]
    if there.since is not None:
        lines += [f"  before   a previous system is kept since {messages.moment(there.since)}: "
                  "`recover --undo`, `recover --forget`"]  # fmt: skip
    lines += [messages.how_to_log_in(view, user, resident)] if now.running else []
    lines += line(forwards_of(user))
    lines += [] if now.running else [f"Start it:  ssh {view.server}-manage"]
    more = {
        "since": now.since,
        "memory_bytes": now.memory,
        "tasks": now.tasks,
        "previous_since": there.since,
        "last_work": None if work is None else asdict(work),
    }
    return wire.Answer("\n".join(lines), {**facts(view, user, running=now.running), **more})


def _in_words(work: Undertaking) -> str:
    if work.ended is None:
        return f"{work.what}: under way since {messages.moment(work.begun)}"
    if work.failed:
        return f"{work.what}: not done ({messages.moment(work.ended)}): {work.failed}"
    return f"{work.what}: done ({messages.moment(work.ended)})"
