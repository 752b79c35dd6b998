"""`recover NAME PATH...`: brings files of a snapshot back, beside the present ones."""

from __future__ import annotations

import os

from reconciler.host import in_words
from reconciler.host.published import current_view, resident_of
from reconciler.plan import Tell
from reconciler.requests import files_back
from reconciler.requests.files_back import Back
from reconciler.requests.unit import power_of
from reconciler.snapshots.copies import Copy, copy_of
from reconciler.snapshots.user_archives import Snapshot, open_snapshot
from shells.verbs import VerbRequest, facts, forwards_of
from state.errors import LxcGpuError
from state.wire import messages

MOST_SHOWN = 10
"""Files that an answer lists."""


def answer(asked: VerbRequest, tell: Tell) -> messages.Answer:
    """Bring files back. LxcGpuError if one isn't in the snapshot; it names similar ones.

    Nothing is asked, because nothing is replaced.
    """
    if "confirm" in asked.options:
        raise LxcGpuError(
            "usage", "Files that come back replace nothing, so there is nothing to confirm.",
            "Type it without `--confirm`; try `help recover`.",
        )  # fmt: skip
    view, user, name = current_view(), asked.user, asked.options["name"]
    resident_of(view, user)
    paths = files_back.wanted(asked.options["paths"].split("\n"), user)
    kept: Copy | Snapshot | None = copy_of(view, user, name)
    if isinstance(kept, Copy):
        back = files_back.bring_back(user, kept, paths, files_back.from_copy(kept), tell)
    else:
        descriptor, kept = open_snapshot(view, user, name)
        try:
            bring = files_back.from_archive(descriptor, kept)
            back = files_back.bring_back(user, kept, paths, bring, tell)
        finally:
            os.close(descriptor)
    if back.missing:
        raise files_back.not_there(name, back.missing, back.folder)
    there = [str(back.folder / path) for path in paths]
    return _answered(asked, back, kept, there)


def _answered(
    asked: VerbRequest, back: Back, kept: Snapshot | Copy, there: list[str]
) -> messages.Answer:
    view, user = back.view, asked.user
    more = len(there) - MOST_SHOWN
    lines = [
        f"Back from {named(kept)},",
        f"in your container on {view.server}:",
        *(f"  {path}" for path in there[:MOST_SHOWN]),
        *([f"  and {more} more in {back.folder}"] if more > 0 else []),
        "Nothing that was there has changed.",
    ]
    told = {"snapshot": kept.name, "folder": str(back.folder), "paths": there}
    about = facts(view, user, forwards_of(user), running=power_of(user).running)
    return messages.Answer("\n".join(lines), {**about, **told})


def named(snapshot: Snapshot | Copy) -> str:
    """A snapshot in words: `the snapshot x (2026-11-26 14:05, on gpu17)`."""
    return f"the snapshot {snapshot.name} ({in_words.moment(snapshot.taken)}, on {snapshot.server})"
