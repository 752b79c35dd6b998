"""Replaces a container's system and keeps the previous one: `recover`, `rebuild`.

The container runs from `rootfs`. Its folder may also hold

- `rootfs.new`: being made; worthless once the program that made it has ended;
- `rootfs.before`: complete, the previous one; or, after a kill just before the exchange, the next;
- `rootfs.frozen`, on btrfs: a copy of the moment, while it is packed;
- `.trash-*`: being removed.

`rootfs` and `rootfs.before` change places in one step (renameat2(2), RENAME_EXCHANGE), so `rootfs`
is always there and always whole.
"""

from __future__ import annotations

import dataclasses
import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from reconciler.children.forked import STDERR, Child
from reconciler.container.undertaking import undertaking
from reconciler.disk import removal
from reconciler.disk.free_space import used
from reconciler.host import locks
from reconciler.host.journal import event
from reconciler.host.places import rootfs
from reconciler.host.published import current_view, resident_of
from reconciler.mounts.tree import Tree
from reconciler.plan import Tell
from reconciler.requests import power
from reconciler.rounds import keep_spares
from reconciler.snapshots import copies
from reconciler.systems import folders
from reconciler.systems.fitting import fit
from reconciler.systems.inventory import PREVIOUS, Systems, systems_of
from state import files
from state.errors import LxcGpuError, Remedy, os_error
from state.view import Resident, View
from state.wire.messages import Progress

Make = Callable[[View, Resident, Tree], None]
"""Fills an empty system. LxcGpuError if it can't."""


@dataclass(frozen=True)
class Exchanged:
    """What came of an exchange."""

    view: View
    running: bool
    """Whether the container runs now: it does if it did before."""
    notes: tuple[str, ...]
    """What the owner should know about the system that is in place now."""
    comes_back: bool = False
    """Whether it is down for an announcement, after which it is started automatically."""


class DoesNotComeUpError(LxcGpuError):
    """The systems were exchanged, but the container doesn't start with the new one."""


def replace(
    user: str,
    what: str,
    expected: Systems | None,
    make: Make,
    tell: Tell,
    *,
    at_rest: Make | None = None,
) -> Exchanged:
    """Make a system while the container goes on running, then put it in place.

    `at_rest` completes the system while the container is down. If anything fails before the
    exchange, nothing has changed; DoesNotComeUpError is raised after it. The system that was
    in place is kept instead of the one that was kept until now.
    """
    with _work(user, what, expected) as (view, resident, root):
        with folders.beside(view, user, resident) as tree:
            make(view, resident, tree)
            tell(Progress("waiting until all of it is on the disk"))
            files.settle(tree.slot)

            def fitted(now: View, resident: Resident) -> tuple[str, ...]:
                return fit(now, user, resident, Tree.of(now, user, resident), tree)

            with _at_rest(user, tell, fitted if at_rest is None else None) as down:
                notes = down.notes
                if at_rest is not None:
                    at_rest(down.view, down.resident, tree)
                    tell(Progress("waiting until all of it is on the disk"))
                    files.settle(tree.slot)
                    notes = fitted(down.view, down.resident)
                trash = _put_in_place(root, tree.slot)
                remover = None if trash is None else _remover(user, trash)
                done = _go_on(down, user, notes, tell)
        keep_spares.wake(view)
        if remover is not None:
            done = _removed(remover, done, tell)
        return done.ended()


def undo(user: str, what: str, expected: Systems, tell: Tell) -> Exchanged:
    """Exchange the system in place and the kept one. A second call undoes the first."""

    def fitted(view: View, resident: Resident) -> tuple[str, ...]:
        current = Tree.of(view, user, resident)
        return fit(view, user, resident, current, current.beside(PREVIOUS))

    with (
        _work(user, what, expected) as (_, _, root),
        _at_rest(user, tell, fitted) as down,
    ):
        files.exchange(root, root.with_name(PREVIOUS))
        done = _go_on(down, user, down.notes, tell)
    return done.ended()


def forget(user: str, what: str, expected: Systems, tell: Tell) -> int | None:
    """Remove the kept system. Returns the bytes freed; None if other systems share them."""
    with _work(user, what, expected) as (view, resident, root):
        trash = removal.put_away(root.with_name(PREVIOUS))
        if trash is None:
            return 0
        tell(Progress("removing the previous system"))
        freed = _freed(Tree(trash, resident.subid, view.subid_size))
        removal.delete(trash)
        return freed


def _freed(tree: Tree) -> int | None:
    with suppress(LxcGpuError, OSError):  # it may be anything
        if copies.possible(tree):
            return None
    return used(tree.slot)


def _put_in_place(root: Path, folder: Path) -> Path | None:
    """Exchange the system in place and a new one. Returns where the one kept until now is, if any.

    OSError if that can't be done: then each of them is where it was.
    """
    previous = root.with_name(PREVIOUS)
    trash = removal.put_away(previous)
    try:
        folder.rename(previous)
        files.sync_folder(root.parent)
        files.exchange(root, previous)
    except OSError:
        if not folder.exists():
            previous.rename(folder)
        if trash is not None:
            trash.rename(previous)
        raise
    return trash


@contextmanager
def _work(user: str, what: str, expected: Systems | None) -> Iterator[tuple[View, Resident, Path]]:
    """Exclude all other work on the user's file system, and remove what killed programs left."""
    with undertaking(user, what):
        view = current_view()
        resident = resident_of(view, user)
        _check(view, user, expected)
        root = rootfs(view, user)
        folders.clear(root.parent)
        yield view, resident, root


def _check(view: View, user: str, expected: Systems | None) -> None:
    if expected is not None and systems_of(view, user) != expected:
        raise LxcGpuError(
            "changed-meanwhile",
            "Your container's system was exchanged meanwhile.",
            "Nothing was done. Look at `status`, then ask again.",
            Remedy.RETRY,
        )


@dataclass(frozen=True)
class _Down:
    """A container that is down for a moment, and the view by which that was done."""

    view: View
    resident: Resident
    was_running: bool
    notes: tuple[str, ...]
    """What the owner should know about the system that takes its place."""


@contextmanager
def _at_rest(
    user: str, tell: Tell, fitted: Callable[[View, Resident], tuple[str, ...]] | None
) -> Iterator[_Down]:
    """Stop the container, with all other work on it excluded.

    `fitted` has the next system fitted while this one shuts down, and returns notes. After an error
    the container runs again as before.
    """
    with locks.lock(locks.user_lock(user)):
        view = current_view()  # the user may have been disabled meanwhile
        resident = resident_of(view, user)
        was_running = power.begin_to_stop(user, tell)
        try:
            try:
                notes = () if fitted is None else fitted(view, resident)
            finally:
                power.stop_alone(user, lambda _: None)
            yield _Down(view, resident, was_running, notes)
        except BaseException as error:
            if was_running:
                tell(Progress("starting the container as it was"))
                with suppress(LxcGpuError, OSError):
                    power.start_alone(view, user, resident, tell)
            if isinstance(error, OSError) and error.errno in (errno.EINVAL, errno.EBUSY):
                raise _no_exchange(view, error) from error
            raise


@dataclass(frozen=True)
class _Done:
    """The result of the start after the systems were exchanged."""

    exchanged: Exchanged
    error: LxcGpuError | None = None

    def ended(self) -> Exchanged:
        """The result. DoesNotComeUpError if the system that is in place now doesn't come up."""
        if self.error is not None:
            raise DoesNotComeUpError(
                self.error.code,
                f"The systems were exchanged, but the one in place now doesn't come up. "
                f"{self.error.message}",
                f"To go back: `ssh {self.exchanged.view.server}-manage recover --undo`. "
                "Nothing is lost.",
                self.error.remedy,
                self.error.details,
            )
        return self.exchanged


def _remover(user: str, trash: Path) -> Child | None:
    """A child that removes the system that was kept until now, while the container boots.

    Never raises: the exchange is done.
    """

    def act() -> None:
        os.nice(19)
        try:
            removal.delete(trash)
        except (LxcGpuError, OSError) as error:
            event("not-removed", user=user, why=str(error))
        else:
            os._exit(0)

    try:
        return Child(act, [STDERR])
    except OSError as error:
        event("not-removed", user=user, why=str(error))
        return None


def _removed(remover: Child, done: _Done, tell: Tell) -> _Done:
    """Wait for the child. Never raises."""
    if not remover.has_ended():
        tell(Progress("removing the system that was kept until now"))
    if remover.has_ended(removal.PATIENCE) and remover.status == 0:
        return done
    note = "The system kept until now could not be removed yet. That is tried again later."
    there = done.exchanged
    return _Done(dataclasses.replace(there, notes=(*there.notes, note)), done.error)


def _go_on(down: _Down, user: str, notes: tuple[str, ...], tell: Tell) -> _Done:
    """Start the container if it ran before. Never raises: the exchange is done."""
    view = down.view
    stopped = Exchanged(view, running=False, notes=notes)
    try:
        files.sync_folder(rootfs(view, user).parent)
        if not down.was_running:
            return _Done(stopped)
        started = power.start_alone(view, user, down.resident, tell)
    except LxcGpuError as error:
        if error.code == "closed":  # that says nothing about the system
            power.note_down(user)
            note = f"{error.message.rstrip('.')}. Yours is started automatically after that."
            return _Done(Exchanged(view, running=False, notes=(*notes, note), comes_back=True))
        return _Done(stopped, error)
    except OSError as error:
        return _Done(stopped, os_error(error))
    more = tuple(note for note in started.notes if note not in notes)
    return _Done(Exchanged(view, running=True, notes=notes + more))


def _no_exchange(view: View, error: OSError) -> LxcGpuError:
    return LxcGpuError(
        "no-exchange",
        f"The file system of {view.containers} can't have two folders change places.",
        "Nothing was changed. Sysadmin: use ext4, xfs, btrfs, or zfs from 2.2 on.",
        Remedy.PERSON,
        repr(error),
    )
