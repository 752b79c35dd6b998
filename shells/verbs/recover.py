"""`recover`: puts the container back to a snapshot, or to the system before that."""

from __future__ import annotations

import os

from reconciler.host import in_words
from reconciler.host.published import current_view, resident_of
from reconciler.plan import Tell
from reconciler.requests import exchange
from reconciler.requests.exchange import Exchanged
from reconciler.requests.unit import power_of
from reconciler.snapshots.copies import Copy, copy_of
from reconciler.snapshots.user_archives import open_snapshot
from reconciler.systems.inventory import Systems, systems_of
from reconciler.systems.next_system import FromArchive, FromCopy
from shells.usage import Verb, not_together
from shells.verbs import VerbRequest, facts, files_of, forwards_of, words
from shells.verbs.files_of import named
from shells.verbs.questions import unless_confirmed
from state.errors import LxcGpuError
from state.view import View
from state.wire import messages

WAYS = ("name", "from-stdin", "undo", "forget")


def answer(asked: VerbRequest, tell: Tell) -> messages.Answer | messages.Question:
    """Recover, or undo, or forget."""
    chosen = [way for way in WAYS if way in asked.options]
    if len(chosen) > 1:
        raise not_together(Verb.RECOVER, chosen, asked.options)
    if not chosen or ("paths" in asked.options and chosen != ["name"]):
        raise LxcGpuError(
            "usage",
            "`recover` needs a snapshot's name, or --from-stdin, --undo or --forget.",
            "`snapshot --list` shows your snapshots; try `help recover`.",
        )
    if "paths" in asked.options:
        return files_of.answer(asked, tell)
    ways = {"name": _from_snapshot, "from-stdin": _from_stdin, "undo": undo, "forget": forget}
    return ways[chosen[0]](asked, tell)


def _from_snapshot(asked: VerbRequest, tell: Tell) -> messages.Answer | messages.Question:
    view, there = look(asked.user)
    if (copied := copy_of(view, asked.user, asked.options["name"])) is not None:
        return _from_copy(asked, tell, there, copied)
    descriptor, snapshot = open_snapshot(view, asked.user, asked.options["name"])
    try:
        text = (
            f"Your container on {view.server} becomes what it was in\n{named(snapshot)}.\n"
            f"{what_else(asked.user, there)}"
        )
        if (question := unless_confirmed(asked, text, (there, snapshot.sha256))) is not None:
            return question
        done = exchange.replace(
            asked.user,
            f"recover from the snapshot {snapshot.name}",
            there,
            FromArchive(asked.user, descriptor, snapshot, tell),
            tell,
        )
    finally:
        os.close(descriptor)
    return answered(asked, done, f"is what it was in\n{named(snapshot)}", snapshot=snapshot.name)


def _from_copy(
    asked: VerbRequest, tell: Tell, there: Systems, copied: Copy
) -> messages.Answer | messages.Question:
    view, user = current_view(), asked.user
    text = (
        f"Your container on {view.server} becomes what it was in\n{named(copied)}.\n"
        f"{what_else(user, there)}"
    )
    if (question := unless_confirmed(asked, text, (there, copied.taken))) is not None:
        return question
    what = f"recover from the snapshot {copied.name}"
    done = exchange.replace(user, what, there, FromCopy(user, copied), tell)
    return answered(asked, done, f"is what it was in\n{named(copied)}", snapshot=copied.name)


def _from_stdin(asked: VerbRequest, tell: Tell) -> messages.Answer:
    look(asked.user)
    if asked.descriptor is None:
        raise LxcGpuError("usage", "There is nothing to read from.", "Try `help recover`.")
    make = FromArchive(asked.user, asked.descriptor, None, tell)
    done = exchange.replace(asked.user, "recover from what came in", None, make, tell)
    return answered(asked, done, "is the system that came in")


def undo(asked: VerbRequest, tell: Tell) -> messages.Answer | messages.Question:
    """Go back to the previous system, for `recover` and `rebuild`."""
    view, there = _look_for_kept(asked.user)
    text = (
        f"Your container on {view.server} goes back to its previous system, kept since "
        f"{in_words.moment(there.since or 0)}.\n{_restart(asked.user)}\n"
        "The present system is kept in its place: the same once more returns to it."
    )
    if (question := unless_confirmed(asked, text, there)) is not None:
        return question
    done = exchange.undo(asked.user, "recover --undo", there, tell)
    return answered(asked, done, "has the system back that was kept")


def forget(asked: VerbRequest, tell: Tell) -> messages.Answer | messages.Question:
    """Remove the previous system, for `recover` and `rebuild`."""
    view, there = _look_for_kept(asked.user)
    text = (
        f"The previous system, kept on {view.server} since {in_words.moment(there.since or 0)}, is "
        "removed for good.\nYour container as it is now stays as it is."
    )
    if (question := unless_confirmed(asked, text, there)) is not None:
        return question
    freed = exchange.forget(asked.user, "recover --forget", there, tell)
    words = f"The previous system is removed: {_free_again(freed)}."
    user, running = asked.user, power_of(asked.user).running
    about = facts(view, user, forwards_of(user), running=running)
    return messages.Answer(words, {**about, "freed_bytes": freed})


def _free_again(freed: int | None) -> str:
    if freed is None:
        return "what no snapshot shares with it becomes free"
    return f"{in_words.size(freed)} are free again"


def look(user: str) -> tuple[View, Systems]:
    """The view, and the systems that are there. LxcGpuError if the user has no container here."""
    view = current_view()
    resident_of(view, user)
    return view, systems_of(view, user)


def _look_for_kept(user: str) -> tuple[View, Systems]:
    view, there = look(user)
    if there.previous is None:
        raise LxcGpuError(
            "nothing-kept",
            f"No previous system of your container is kept on {view.server}.",
            "One is kept after `recover` and `rebuild`.",
        )
    return view, there


def what_else(user: str, there: Systems) -> str:
    """The lines of a question about what every exchange does."""
    lines = [
        _restart(user),
        "The present system is kept: `recover --undo` goes back,\n"
        "`recover --forget` frees its room.",
    ]
    if there.since is not None:
        lines.append(
            f"The previous system, kept since {in_words.moment(there.since)}, is removed to make "
            "room."
        )
    return "\n".join(lines)


def _restart(user: str) -> str:
    if power_of(user).running:
        return "It is running: programs in it end when it is restarted."
    return "It is stopped, and stays so."


def answered(asked: VerbRequest, done: Exchanged, what: str, **more: object) -> messages.Answer:
    """The answer after an exchange."""
    view, user = done.view, asked.user
    lines = [
        *(f"Note: {note}" for note in done.notes),
        f"Your container on {view.server} {what}.",
        "The previous system is kept.",
        f"To go back:  ssh -t {view.server}-manage recover --undo",
        f"To free its room:  ssh -t {view.server}-manage recover --forget",
    ]
    if done.running:
        lines.append(words.how_to_log_in(view, user, view.residents[user]))
    elif not done.comes_back:
        lines.append(f"Start it:  ssh {view.server}-manage")
    told = {"notes": list(done.notes), **more}
    about = facts(view, user, forwards_of(user), running=done.running)
    return messages.Answer("\n".join(lines), {**about, **told})
