"""`snapshot`: keeps the container as it is now; lists, removes or sends snapshots."""

from __future__ import annotations

import time
from dataclasses import asdict

from reconciler.container.undertaking import last
from reconciler.host.in_words import columns, moment, size
from reconciler.host.published import current_view, resident_of
from reconciler.plan import Tell
from reconciler.requests.unit import power_of
from reconciler.snapshots import take as take_snapshot
from reconciler.snapshots import user_archives as snapshots
from reconciler.snapshots.copies import Copy, copies_of, copy_of
from reconciler.snapshots.take import Copied
from reconciler.snapshots.user_archives import Snapshot, UserArchives
from shells.usage import Verb, not_together
from shells.verbs import VerbRequest
from shells.verbs.questions import unless_confirmed
from state.errors import LxcGpuError
from state.view import View
from state.wire import messages
from state.words import plural

_HELP = "Try `help snapshot`."
NO_BACKUP = "It is on the same disk as the container, so it is not a backup."


def answer(asked: VerbRequest, tell: Tell) -> messages.Answer | messages.Question:
    """Take a snapshot, unless an option says something else."""
    options = asked.options
    kinds = [name for name in ("archive", "list", "remove", "to-stdout") if name in options]
    if len(kinds) > 1:
        raise not_together(Verb.SNAPSHOT, kinds, options)
    if "remove" in options:
        return _remove(asked)
    for kind in kinds:
        if "name" in options and kind != "archive":
            raise LxcGpuError("usage", f"`--{kind}` takes no name.", _HELP)
    if "list" in options:
        return _list(asked.user)
    if "to-stdout" in options:
        return _send(asked, tell)
    return _take(asked, tell)


def _take(asked: VerbRequest, tell: Tell) -> messages.Answer:
    begun, name = time.monotonic(), asked.options.get("name", "")
    if "archive" not in asked.options:
        copied = take_snapshot.copy(asked.user, name, tell)
        if copied is not None:
            return _copied(asked.user, copied, time.monotonic() - begun)
    taken = take_snapshot.take(asked.user, name, tell)
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


def _copied(user: str, copied: Copied, seconds: float) -> messages.Answer:
    copy, server = copied.copy, copied.view.server
    lines = [
        f"Snapshot {copy.name} is complete, in {seconds:.1f} s.",
        *(f"Removed {name} to make room: {copied.view.snapshots_kept} are kept."
          for name in copied.removed),
        NO_BACKUP,
        "`snapshot --archive` makes one that can be.",
        f"Get it back:  ssh {server}-manage recover {copy.name}",
    ]  # fmt: skip
    facts = {**_facts_of_copy(copy), "changed": 0, "removed": list(copied.removed)}
    return messages.Answer("\n".join(lines), {"user": user, **facts})


def _changed(changed: int, example: str, server: str, *, running: bool) -> list[str]:
    if not changed:
        return []
    files = plural(changed, "file")
    lines = [f"{files} changed while being read, e.g. {example[:200]}"]
    if running:
        lines += [
            "  That is harmless for logs and the like. For a database that was being written to:",
            f"  ssh {server}-manage stop; ssh {server}-manage snapshot; ssh {server}-manage",
        ]
    return lines


def _send(asked: VerbRequest, tell: Tell) -> messages.Answer:
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
    copies = copies_of(view, user)
    archives, problem = _archives(view, user, or_else=bool(copies))
    begun = [each for each in archives.begun if each[0] == view.server]
    begun = begun if begun and _packing(user) else []
    lines = [*problem, *_table(archives.whole, copies, view)]
    lines += [f"Under way: {name}, {size(so_far)} so far." for _, name, so_far in begun]
    lines += [
        (
            f"Not complete: {name}. Perhaps it is just being written or removed; if not, "
            f"remove it: ssh {view.server}-manage snapshot --remove {name}"
            )
        for name in archives.broken
    ]  # fmt: skip
    facts = {
        "user": user,
        "server": view.server,
        "keep": view.snapshots_kept,
        "snapshots": [*map(_facts, archives.whole), *map(_facts_of_copy, copies)],
        "under_way": [name for _, name, _ in begun],
        "broken": list(archives.broken),
    }
    return messages.Answer("\n".join(lines), facts)


def _archives(view: View, user: str, *, or_else: bool) -> tuple[UserArchives, list[str]]:
    """Lines about the archives. With copies besides, a NAS that is away is only a remark."""
    try:
        return snapshots.archives_of(view, user), []
    except LxcGpuError as error:
        if not or_else:
            raise
        return UserArchives(), [f"{error.message} {error.hint}".rstrip()]


def _packing(user: str) -> bool:
    work = last(user)
    return work is not None and work.ended is None


def _table(found: tuple[Snapshot, ...], copies: tuple[Copy, ...], view: View) -> list[str]:
    if not (found or copies):
        return [f"You have no snapshots yet. Take one:  ssh {view.server}-manage snapshot"]
    rows = [
        (each.taken, each.name, size(each.packed), size(each.unpacked), each.server)
        for each in found
    ]
    rows += [(each.taken, each.name, "same disk", "-", each.server) for each in copies]
    kept = view.snapshots_kept
    lines = columns([
        ("NAME", "TAKEN", "SIZE", "UNPACKED", "FROM"),
        *((name, moment(taken), *rest) for taken, name, *rest in sorted(rows)),
    ])  # fmt: skip
    if copies:
        lines.append(f"{len(copies)} of {kept} on the same disk, which are not a backup.")
    if found:
        lines.append(f"{len(found)} of {kept}{' archives' if copies else ''}.")
    return [*lines, "The oldest one without a name from you makes room."]


def _remove(asked: VerbRequest) -> messages.Answer | messages.Question:
    name, user = asked.options.get("name", ""), asked.user
    if not name:
        raise LxcGpuError("usage", "Which one? `snapshot --remove NAME`.", "See `snapshot --list`.")
    view = current_view()
    resident_of(view, user)
    copy = copy_of(view, user, name)
    what = _what_copy(copy) if copy else _what(snapshots.archives_of(view, user), name)
    if what is None:
        raise snapshots.no_such(view, user, name)
    text = f"This removes {what}. It can't be brought back."
    if (question := unless_confirmed(asked, text, user)) is not None:
        return question
    if copy:
        take_snapshot.remove_copy(user, copy)
    else:
        take_snapshot.remove(view, user, name)
    return messages.Answer(f"Removed {what}.", {"user": user, "removed": [name]})


def _what_copy(copy: Copy) -> str:
    return f"the snapshot {copy.name} of {copy.server}, taken {moment(copy.taken)}, on its disk"


def _what(archives: UserArchives, name: str) -> str | None:
    """What would be removed, in words that differ for different things."""
    for each in archives.whole:
        if each.name == name:
            return (
                f"the snapshot {name} of {each.server}, taken {moment(each.taken)}, "
                f"{size(each.packed)} (sha256 {each.sha256[:12]}...)"
            )
    return f"what is left of {name}, which is not complete" if name in archives.broken else None


def _facts(snapshot: Snapshot) -> dict[str, object]:
    facts = asdict(snapshot)
    return {
        **{n: facts[n] for n in ("name", "server", "taken", "sha256", "own_name")},
        "packed_bytes": snapshot.packed,
        "unpacked_bytes": snapshot.unpacked,
        "kind": "archive",
    }


def _facts_of_copy(copy: Copy) -> dict[str, object]:
    return {**asdict(copy), "kind": "copy"}
