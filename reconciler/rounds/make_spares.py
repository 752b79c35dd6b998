"""Makes systems ready for the next users; lxc-gpu-spares.service runs this as root.

They are unpacked behind the fence like all systems, in ids that no user has (`Subids.spare`). An
account of their own has these in /etc/subuid, so newuidmap(1) gives them to nobody else.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import file_digest
from io import FileIO
from pathlib import Path
from secrets import token_hex

from reconciler.archives.extract import PackedSystem, extract
from reconciler.archives.id_map import IdMapOwner
from reconciler.disk.free_space import used
from reconciler.host import locks, marker
from reconciler.host.journal import event
from reconciler.host.places import SPARES_ACCOUNT
from reconciler.kinds.accounts import subids
from reconciler.mounts.tree import Tree
from reconciler.rounds.keep_spares import check_account, look
from reconciler.spares import notes, store
from reconciler.spares.decision import Todo
from reconciler.spares.notes import FailedTemplate, Notes, Spare, Stamp
from state import files
from state.errors import LxcGpuError, Remedy
from state.view import Resident, View

MOST_LOOKS = 20
"""How often the work is planned anew: people take spares meanwhile."""
SETTLED = 2.0
"""Seconds after which a change of a file shows in its ctime for sure, however coarse that is."""


def keep(view: View) -> None:
    """Do all that is to be done, unless another process does."""
    with locks.lock("spares", wait=False) as alone:
        for _ in range(MOST_LOOKS if alone else 0):
            known, work = look(view)
            if not work:
                return
            do(view, known, work)


def do(view: View, known: Notes, work: Todo) -> None:
    """Do the planned work. A failure is noted, so that it isn't repeated endlessly."""
    for name in work.remove:
        store.throw_away(view, name)
    there = store.names(view)
    kept = [spare for spare in known.spares if spare.ident in there]
    for spare in [each for each in work.compare if each in kept]:  # some give way meanwhile
        kept.remove(spare)
        kept += _compared(spare)
    failures = {name: f for name, f in known.failures.items() if f.stamp == notes.stamp_now(name)}
    notes.write_notes(Notes(tuple(kept), failures))
    if work.bases or work.make:
        _ids(view)
    for template, base in [*((t, True) for t in work.bases), *((t, False) for t in work.make)]:
        begun = time.monotonic()
        stamp = notes.stamp_now(template)
        try:
            kept.append(_made(view, template, kept, base=base))
        except (LxcGpuError, OSError) as error:
            reason = error.message if isinstance(error, LxcGpuError) else str(error)
            event("spare-failed", template=template, why=reason)
            if stamp is not None:
                failures[template] = FailedTemplate(stamp, reason, time.time())
        else:
            event("spare-ready", template=template, seconds=round(time.monotonic() - begun, 1))
        notes.write_notes(Notes(tuple(kept), failures))


def _compared(spare: Spare) -> tuple[Spare, ...]:
    """The spare of an archive that was touched, if its digest is still the same."""
    try:
        stamp, digest = _read(spare.template, _digest)
    except (LxcGpuError, OSError):
        return ()
    return (replace(spare, stamp=stamp),) if digest == spare.sha256 else ()


def _made(view: View, template: str, kept: Sequence[Spare], *, base: bool) -> Spare:
    """Make a spare in the store. LxcGpuError or OSError if that can't be done."""
    folder, ident = _store(view), token_hex(8)
    tree = store.tree_of(view, f"{store.NEW}{ident}")
    store.make_empty(tree)
    try:
        bases = [spare for spare in kept if spare.base and spare.template == template and not base]
        if bases:
            store.share(folder / bases[0].ident, tree, _owner(view))
            one = replace(bases[0], ident=ident, base=False)
        else:
            stamp, digest = _read(template, lambda stream: _unpacked(view, template, stream, tree))
            one = Spare(ident, template, stamp, digest, used(tree.slot), base)
        files.settle(tree.slot)
        store.put_in(view, tree, ident, bases[0].ident if bases else None)
    except BaseException:
        store.throw_away(view, tree.slot.name)
        raise
    files.sync_folder(folder)
    return one


def _unpacked(view: View, template: str, stream: FileIO, tree: Tree) -> str:
    size = os.fstat(stream.fileno()).st_size
    source = PackedSystem(stream.fileno(), f"the template {template}", size)
    digest = extract(source, tree, _owner(view), lambda _: None)
    tree.keep_top()  # the archive may have said otherwise
    return digest


def _digest(stream: FileIO) -> str:
    return file_digest(stream, "sha256").hexdigest()


def _read(template: str, work: Callable[[FileIO], str]) -> tuple[Stamp, str]:
    """The archive's stamp, and what `work` makes of it. LxcGpuError if it was changed."""
    with notes.archive(template).open("rb", buffering=0) as stream:
        before = os.fstat(stream.fileno())
        time.sleep(max(0.0, min(SETTLED, SETTLED - (time.time() - before.st_ctime))))
        result = work(stream)
        after = Stamp.of(os.fstat(stream.fileno()))
    if after != Stamp.of(before):
        raise LxcGpuError(
            "template-changed",
            f"The archive of the template {template} was changed while it was read.",
            "It is read again soon.",
            Remedy.WAIT,
        )
    return after, result


def _store(view: View) -> Path:
    """The store's folder, made if need be. LxcGpuError if the disk isn't this server's."""
    marker.require(view)
    folder = store.store(view)
    folder.mkdir(mode=0o711, exist_ok=True)
    folder.chmod(0o711)  # like a container's folder: the unpacking account has to get to the slot
    return folder


def _owner(view: View) -> IdMapOwner:
    """The pseudo-user whose ids spare systems have."""
    nobody = Resident("", 0, 0, view.spare_subid, "", (), "", {})
    return IdMapOwner(SPARES_ACCOUNT, SPARES_ACCOUNT, nobody, view.subid_size)


def _ids(view: View) -> None:
    """Give the range to the account. LxcGpuError if there is no account."""
    check_account()
    wanted = {SPARES_ACCOUNT: ((view.spare_subid, view.subid_size),)}
    with locks.lock(locks.GLOBAL):
        for file in (subids.SUBUID, subids.SUBGID):
            text = files.read_text(file) or ""
            if subids.parse(text).get(SPARES_ACCOUNT) != wanted[SPARES_ACCOUNT]:
                files.write_file(file, subids.replace_lines(text, wanted))
