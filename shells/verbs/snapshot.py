"""`snapshot`: keep a copy of the container; list, remove and send copies."""

from __future__ import annotations

import time
from dataclasses import asdict

from reconciler.container.undertaking import last
from reconciler.host.in_words import columns, moment, size
from reconciler.host.published import current_view, resident_of
from reconciler.plan import Tell
from reconciler.requests.power import power_of
from reconciler.snapshots import shelf as snapshots
from reconciler.snapshots import take as take_snapshot
from reconciler.snapshots.shelf import Shelf, Snapshot
from shells.verbs import Asked
from shells.verbs.questions import unless_confirmed
from state.errors import LxcGpuError
from state.view import View
from state.wire import messages

_HELP = "Try `help snapshot`."


def answer(asked: Asked, tell: Tell) -> messages.Answer | messages.Question:
    """Take one, unless an option says something else."""
    options = asked.options
    kinds = [name for name in ("list", "remove", "to-stdout") if name in options]
    if len(kinds) > 1:
        words = " and ".join(f"`--{kind}`" for kind in kinds)
        raise LxcGpuError("usage", f"{words} don't go together.", _HELP)
    if "remove" in options:
        return _remove(asked)
    for kind in kinds:
        if "name" in options:
            raise LxcGpuError("usage", f"`--{kind}` takes no name.", _HELP)
    if "list" in options:
        return _list(asked.user)
    if "to-stdout" in options:
        return _send(asked, tell)
    return _take(asked, tell)


def _take(asked: Asked, tell: Tell) -> messages.Answer:
    begun = time.monotonic()
    taken = take_snapshot.take(asked.user, asked.options.get("name", ""), tell)
    snapshot, server = taken.snapshot, taken.view.server
    seconds = time.monotonic() - begun
    lines = [
        f"Snapshot {snapshot.name} is complete: {size(snapshot.packed)}, "
        f"{size(snapshot.unpacked)} unpacked, in {seconds:.0f} s.",
        *_changed(taken.changed, taken.example, server, running=power_of(asked.user).running),
        *(f"Removed {name} to make room: {taken.view.snapshots_kept} are kept."
          for name in taken.removed),
        f"Get it back:  ssh {server}-manage recover {snapshot.name}",
    ]  # fmt: skip
    facts = {**_facts(snapshot), "changed": taken.changed, "removed": list(taken.removed)}
    return messages.Answer("\n".join(lines), {"user": asked.user, **facts})


def _changed(changed: int, example: str, server: str, *, running: bool) -> list[str]:
    if not changed:
        return []
    files = "1 file" if changed == 1 else f"{changed} files"
    lines = [f"{files} changed while being read, e.g. {example[:200]}"]
    if running:
        lines += [
            "  No harm to logs and the like. For a database in the middle of its work:",
            f"  ssh {server}-manage stop; ssh {server}-manage snapshot; ssh {server}-manage",
        ]
    return lines


def _send(asked: Asked, tell: Tell) -> messages.Answer:
    if asked.descriptor is None:
        raise LxcGpuError("usage", "`--to-stdout` needs somewhere to write to.", _HELP)
    packed = take_snapshot.send(asked.user, asked.descriptor, tell)
    server = current_view().server
    text = [
        f"The container is sent: {size(packed.packed)}, {size(packed.unpacked)} unpacked.",
        *_changed(
            packed.changed, packed.example, server, running=power_of(asked.user).running
        ),
    ]  # fmt: skip
    facts = {
        "user": asked.user, "server": server, "packed_bytes": packed.packed,
        "unpacked_bytes": packed.unpacked, "sha256": packed.sha256, "changed": packed.changed,
    }  # fmt: skip
    return messages.Answer("\n".join(text), facts)


def _list(user: str) -> messages.Answer:
    view = current_view()
    resident_of(view, user)
    shelf = snapshots.shelf_of(view, user)
    begun = [each for each in shelf.begun if each[0] == view.server]
    begun = begun if begun and _packing(user) else []
    lines = [*_table(shelf.whole, view)]
    lines += [f"Under way: {name}, {size(so_far)} so far." for _, name, so_far in begun]
    lines += [
        f"Not whole: {name}. Perhaps it is just being written or removed; else remove it: "
        f"ssh {view.server}-manage snapshot --remove {name}"
        for name in shelf.broken
    ]  # fmt: skip
    facts = {
        "user": user,
        "server": view.server,
        "keep": view.snapshots_kept,
        "snapshots": [_facts(each) for each in shelf.whole],
        "under_way": [name for _, name, _ in begun],
        "broken": list(shelf.broken),
    }
    return messages.Answer("\n".join(lines), facts)


def _packing(user: str) -> bool:
    work = last(user)
    return work is not None and work.ended is None


def _table(found: tuple[Snapshot, ...], view: View) -> list[str]:
    if not found:
        return [f"You have no snapshots yet. Take one:  ssh {view.server}-manage snapshot"]
    rows = [
        (each.name, moment(each.taken), size(each.packed), size(each.unpacked), each.server)
        for each in found
    ]
    return [
        *columns([("NAME", "TAKEN", "SIZE", "UNPACKED", "FROM"), *rows]),
        f"{len(found)} of {view.snapshots_kept}. The oldest that you gave no name makes room.",
    ]


def _remove(asked: Asked) -> messages.Answer | messages.Question:
    name, user = asked.options.get("name", ""), asked.user
    if not name:
        raise LxcGpuError("usage", "Which one? `snapshot --remove NAME`.", "See `snapshot --list`.")
    view = current_view()
    resident_of(view, user)
    what = _what(snapshots.shelf_of(view, user), name)
    if what is None:
        raise snapshots.no_such(view, user, name)
    text = f"This removes {what}. It can't be brought back."
    if (question := unless_confirmed(asked, text, user)) is not None:
        return question
    take_snapshot.remove(view, user, name)
    return messages.Answer(f"Removed {what}.", {"user": user, "removed": [name]})


def _what(shelf: Shelf, name: str) -> str | None:
    """What would be removed, in words that are others for every other thing."""
    for each in shelf.whole:
        if each.name == name:
            return (
                f"the snapshot {name} of {each.server}, taken {moment(each.taken)}, "
                f"{size(each.packed)} (sha256 {each.sha256[:12]}...)"
            )
    return f"what is left of {name}, which is not whole" if name in shelf.broken else None


def _facts(snapshot: Snapshot) -> dict[str, object]:
    facts = asdict(snapshot)
    return {
        **{n: facts[n] for n in ("name", "server", "taken", "sha256", "own_name")},
        "packed_bytes": snapshot.packed,
        "unpacked_bytes": snapshot.unpacked,
    }
