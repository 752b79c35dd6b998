"""Brings a server to what its view wants, one kind of things after the other.

For each kind, everything is read (`observe`) and compared with what is wanted (`diff`). What
differs is changed (`apply`) and read once more: a change counts only if it can be seen. (A
controller of Kubernetes works like this. In Ansible's terms, a kind is a module and a change is a
task.)

A change is made under a lock: the global one, or that of the user. Under the lock, the thing is
read again, as it may have changed since. A round doesn't wait for one user's lock while there is
work to do for others: it postpones that user's change to its end.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from reconciler.host import locks
from reconciler.host.journal import event
from reconciler.plan import AnyKind, Change, Kind, Lock, R, Tell, diff
from state.errors import LxcGpuError, Remedy, mistake, os_error
from state.view import View
from state.wire.messages import NOBODY, Failure, Progress, failure

Current = Callable[[], bool]
"""Whether the view is still the one to go by."""
PATIENCE = 60.0
"""Seconds that a round waits, at its end, for other work on containers."""
TRIES = 3
"""How many times in all a request tries, while something else undoes its change."""
MOST_SAID = 10
"""Changes of one kind that are announced one by one."""


class SupersededError(Exception):
    """The view is no longer to be applied: a newer one was published, or the server suspended."""

    def __init__(self, changes: Sequence[str]) -> None:
        super().__init__()
        self.changes = tuple(changes)
        """What was changed until then."""


def converge(
    kinds: Sequence[AnyKind],
    view: View,
    *,
    only: str | None = None,
    tell: Tell = lambda _: None,
    current: Current = lambda: True,
    before: Sequence[str] = (),
    leave: Mapping[str, Collection[str]] = MappingProxyType({}),
) -> Outcome:
    """Bring every kind to what `view` wants. A failure with one name stops no other's changes.

    `only` limits the kinds whose names are users to that user. `leave` has, by kind, names that
    are left alone. `current` is called under the lock before each change: SupersededError if it
    says no. `before` are changes that were made already; the outcome begins with them.
    """
    run = _Pass(view, tell, current, Outcome(list(before)))
    for kind in kinds:
        with run.outcome.noting(kind.name, NOBODY):  # the whole kind could not be read or written
            run.converge(kind, only if kind.per_user else None, leave.get(kind.name, ()))
    run.change_postponed()
    return run.outcome


def put_right(kind: Kind[R], view: View, user: str, wanted: R | None) -> None:
    """Have one user's thing of one kind be as `wanted` (None: taken away).

    The caller holds its lock.

    It is tried again when something that doesn't know our locks (a firewall that is loaded anew)
    undoes the change at once. LxcGpuError if it can't be done.
    """
    desired = {} if wanted is None else {user: wanted}
    for _ in range(TRIES):
        run = _Pass(view, desired={kind.name: desired})
        run.change(kind, [user])
        if not run.outcome.failures:
            return
    failure = run.outcome.failures[0]
    raise failure.error()


@dataclass
class Outcome:
    """The result of applying the kinds."""

    changes: list[str] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)

    @contextmanager
    def noting(self, kind: str, name: str) -> Iterator[None]:
        """Note what is raised in the block as a failure of `name`, and go on.

        That includes mistakes of ours: what one container brings about must not keep the others
        from their changes.
        """
        try:
            yield
        except LxcGpuError as error:
            self.failed(kind, {name: error})
        except OSError as error:
            self.failed(kind, {name: os_error(error)})
        except SupersededError:
            raise
        except Exception as error:
            bug = mistake(error)
            event("crashed", kind=kind, what=bug.details)
            self.failed(kind, {name: bug})

    def failed(self, kind: str, errors: Mapping[str, LxcGpuError]) -> None:
        """Note what went wrong, by name."""
        self.failures += [failure(kind, name, error) for name, error in sorted(errors.items())]


@dataclass
class _Pass:
    """One pass over the kinds: the view that it applies, and the results so far."""

    view: View
    tell: Tell = lambda _: None
    current: Current = lambda: True
    outcome: Outcome = field(default_factory=Outcome)
    desired: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    """The things that are wanted, by kind and name."""
    unreadable: set[str] = field(default_factory=set)
    """Users of whom something can't be read: later kinds leave them alone."""
    postponed: list[tuple[AnyKind, str]] = field(default_factory=list)
    """Changes, by kind and user, for which the user's lock was not free."""

    def converge(self, kind: AnyKind, only: str | None, leave: Collection[str]) -> None:
        """Change what differs of one kind, except what is postponed."""
        self.desired[kind.name] = kind.desired(self.view)
        observed = kind.observe(self.view, self.desired[kind.name].keys())
        unreadable = {n: e for n, e in observed.unreadable.items() if only in (None, n)}
        self.outcome.failed(kind.name, unreadable)
        if kind.per_user:
            leave = {*leave, *self.unreadable}
            self.unreadable |= observed.unreadable.keys()
        names = [change.name for change in diff(self.desired[kind.name], observed, only, leave)]
        if kind.lock is Lock.GLOBAL:
            # the kinds are in an order: the later ones of a postponed user wait as well
            waiting = {name for _, name in self.postponed} if kind.per_user else set()
            self.postponed += [(kind, name) for name in names if name in waiting]
            self._change_globally(kind, [name for name in names if name not in waiting])
            return
        for name in names:
            with self.outcome.noting(kind.name, name):
                if not self._change_one(kind, name):
                    self.postponed.append((kind, name))

    def change_postponed(self) -> None:
        """Change what was postponed. What is still locked after PATIENCE is a failure.

        A hostile container can keep its lock forever, so PATIENCE is for all of them together.
        The next round tries again.
        """
        end = time.monotonic() + PATIENCE
        for kind, name in self.postponed:
            with self.outcome.noting(kind.name, name):
                while not self._change_one(kind, name):
                    if time.monotonic() > end:
                        raise _still_busy(name)
                    time.sleep(0.1)

    def _change_one(self, kind: AnyKind, name: str) -> bool:
        """Change one thing under its lock. False if somebody else holds the user's lock."""
        if kind.lock is Lock.GLOBAL:
            self._change_globally(kind, [name])
            return True
        with locks.lock(locks.user_lock(name), wait=False) as held:
            if held:
                self.change(kind, [name])
            return held

    def _change_globally(self, kind: AnyKind, names: Sequence[str]) -> None:
        if not names:
            return
        with locks.lock(locks.GLOBAL):
            # what users choose is changed under this lock: what was read before it may be old
            self.desired[kind.name] = kind.desired(self.view)
            self.change(kind, names)

    def change(self, kind: AnyKind, names: Sequence[str]) -> None:
        """Read again, change what still differs, and read once more. The caller holds the lock."""
        if not self.current():
            raise SupersededError(self.outcome.changes)
        changes = self._differing(kind, names)
        if not changes:
            return
        self._announce(kind, changes)
        errors = dict(kind.apply(self.view, changes, self.tell))
        for change in self._differing(kind, [change.name for change in changes]):
            errors.setdefault(change.name, _still_different(change.name))
        self.outcome.failed(kind.name, errors)
        self.outcome.changes += [
            f"{kind.name}: {kind.describe(c)}" for c in changes if c.name not in errors
        ]

    def _differing(self, kind: AnyKind, names: Sequence[str]) -> tuple[Change[Any], ...]:
        desired, chosen = self.desired[kind.name], frozenset(names)
        wanted = {name: desired[name] for name in names if name in desired}
        differing = diff(wanted, kind.observe(self.view, chosen))
        return tuple(change for change in differing if change.name in chosen)

    def _announce(self, kind: AnyKind, changes: Sequence[Change[Any]]) -> None:
        """Say what is about to be done: each change, or how many there are."""
        if len(changes) > MOST_SAID:
            self.tell(Progress(f"{kind.name}: {len(changes)} changes"))
            return
        for change in changes:
            self.tell(Progress(kind.describe(change)))


def _still_busy(name: str) -> LxcGpuError:
    return LxcGpuError(
        "busy",
        f"Other work on the container of {name} did not end within {PATIENCE:.0f} s.",
        "The next round will try again.",
        Remedy.WAIT,
    )


def _still_different(name: str) -> LxcGpuError:
    return LxcGpuError(
        "still-different",
        f"{name} is not as wanted, although the change was made without an error.",
        "See `lxc-gpu plan` for what differs; something else may be changing it back.",
    )
