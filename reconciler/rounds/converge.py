"""Applies the kinds in their order, and believes nothing but what it observes afterwards."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from reconciler.host import locks
from reconciler.host.journal import event
from reconciler.plan import AnyKind, Change, Lock, Tell, diff
from state.errors import LxcGpuError, Remedy, mistake, os_error
from state.view import View
from state.wire.messages import Failure, Progress

Current = Callable[[], bool]
PATIENCE = 60.0
"""Seconds that a round waits, at its end, for other work on containers."""
TRIES = 3
"""How often a request puts right what somebody else changes at the same moment."""
MOST_SAID = 10
"""Changes of one kind that are said one by one."""


class SupersededError(Exception):
    """A newer revision was published, or a sysadmin had the server hold still, in the middle."""

    def __init__(self, changes: Sequence[str]) -> None:
        super().__init__()
        self.changes = tuple(changes)


@dataclass
class Outcome:
    """What came of applying the kinds."""

    changes: list[str] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)

    @contextmanager
    def noting(self, kind: str, name: str) -> Iterator[None]:
        """What is raised in the block is a failure of `name`, and no reason to stop.

        A mistake of ours as well: what one container brings about ends nobody else's work.
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
        self.failures += [
            Failure(kind, name, error.code, error.message, error.hint)
            for name, error in sorted(errors.items())
        ]


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
    """Bring every kind to what `view` wants; one name's failure stops no other's.

    `only` limits the kinds whose names are users to one of them. `current` is asked, under the
    lock, whether the view is still to be applied: if not, SupersededError, with what was changed,
    before anything more is written. `before` are changes that were made already. `leave` names
    what of a kind is left alone.
    Of whom something can't be read (an account that isn't ours), the kinds after it leave alone.
    """
    outcome = Outcome(list(before))
    left: frozenset[str] = frozenset()
    busy: list[_Busy] = []
    for kind in kinds:
        with outcome.noting(kind.name, "-"):  # the whole kind could not be read or written
            alone = {*leave.get(kind.name, ()), *(left if kind.per_user else ())}
            of = only if kind.per_user else None
            step = _Step(kind, view, kind.desired(view), of, frozenset(alone))
            left |= step.converge(tell, current, outcome, busy)
    _wait_for(busy, tell, current, outcome)
    return outcome


def put_right(kind: AnyKind, view: View, user: str) -> None:
    """One kind for one user, by who holds its lock already. LxcGpuError if it can't be done.

    Again, should somebody without our locks (a firewall that is loaded anew) just undo it.
    """
    alone, outcome = view.only(user), Outcome()
    for _ in range(TRIES):
        outcome = Outcome()
        _Step(kind, alone, kind.desired(alone), user)._apply(
            [user], lambda _: None, lambda: True, outcome
        )
        if not outcome.failures:
            return
    for failure in outcome.failures:
        raise LxcGpuError(failure.code, failure.message, failure.hint)


@dataclass(frozen=True)
class _Step:
    """One kind in one round."""

    kind: AnyKind
    view: View
    desired: Mapping[str, Any]
    only: str | None = None
    leave: frozenset[str] = frozenset()

    def converge(
        self, tell: Tell, current: Current, outcome: Outcome, busy: list[_Busy]
    ) -> frozenset[str]:
        """Do it; the users of whom something can't be read.

        Whose container somebody is at work on goes to `busy`: nobody else waits for that. So do
        the kinds after it, of the same user: their order counts.
        """
        observed = self.kind.observe(self.view, self.desired.keys())
        outcome.failed(
            self.kind.name,
            {n: e for n, e in observed.unreadable.items() if self.only in (None, n)},
        )
        unreadable = frozenset(observed.unreadable if self.kind.per_user else ())
        names = [change.name for change in diff(self.desired, observed, self.only, self.leave)]
        if self.kind.lock is Lock.GLOBAL:
            waiting = {each.name for each in busy} if self.kind.per_user else set()
            busy += [_Busy(self, name) for name in names if name in waiting]
            self._apply_globally([n for n in names if n not in waiting], tell, current, outcome)
            return unreadable
        for name in names:
            with outcome.noting(self.kind.name, name):
                if not self.one(name, tell, current, outcome):
                    busy.append(_Busy(self, name))
        return unreadable

    def one(self, name: str, tell: Tell, current: Current, outcome: Outcome) -> bool:
        """Do it for one user, unless somebody is at work on the container: then False."""
        if self.kind.lock is Lock.GLOBAL:
            self._apply_globally([name], tell, current, outcome)
            return True
        with locks.lock(locks.user_lock(name), wait=False) as held:
            if held:
                self._apply([name], tell, current, outcome)
            return held

    def _apply_globally(
        self, names: Sequence[str], tell: Tell, current: Current, outcome: Outcome
    ) -> None:
        if not names:
            return
        with locks.lock(locks.ACCOUNTS):
            # what users choose is changed under this lock: asked before, it may be old by now
            again = replace(self, desired=self.kind.desired(self.view))
            again._apply(names, tell, current, outcome)

    def _apply(self, names: Sequence[str], tell: Tell, current: Current, outcome: Outcome) -> None:
        """Observe again, apply what still differs, observe once more. The lock is held."""
        if not current():
            raise SupersededError(outcome.changes)
        wanted = {name: self.desired[name] for name in names if name in self.desired}
        changes = self._differing(wanted, names)
        if not changes:
            return
        self._announce(changes, tell)
        errors = dict(self.kind.apply(self.view, changes, tell))
        for change in self._differing(wanted, [change.name for change in changes]):
            errors.setdefault(change.name, _still_different(change.name))
        outcome.failed(self.kind.name, errors)
        outcome.changes += [
            f"{self.kind.name}: {self.kind.describe(c)}" for c in changes if c.name not in errors
        ]

    def _announce(self, changes: Sequence[Change[Any]], tell: Tell) -> None:
        """Say what is about to be done: each change, or how many there are."""
        if len(changes) > MOST_SAID:
            tell(Progress(f"{self.kind.name}: {len(changes)} changes"))
            return
        for change in changes:
            tell(Progress(self.kind.describe(change)))

    def _differing(
        self, wanted: Mapping[str, Any], names: Sequence[str]
    ) -> tuple[Change[Any], ...]:
        chosen = frozenset(names)
        return tuple(
            c for c in diff(wanted, self.kind.observe(self.view, chosen)) if c.name in chosen
        )


@dataclass(frozen=True)
class _Busy:
    """One kind of one user on whose container somebody is at work."""

    step: _Step
    name: str


def _wait_for(busy: list[_Busy], tell: Tell, current: Current, outcome: Outcome) -> None:
    """Last of all, and with patience, but not for ever: it may be hostile work that is waited for.

    What is still busy then is a failure, and the next round's.
    """
    end = time.monotonic() + PATIENCE
    for each in busy:
        kind = each.step.kind.name
        with outcome.noting(kind, each.name):
            while not each.step.one(each.name, tell, current, outcome):
                if time.monotonic() > end:
                    outcome.failed(kind, {each.name: _still_busy(each.name)})
                    break
                time.sleep(0.1)


def _still_busy(name: str) -> LxcGpuError:
    return LxcGpuError(
        "busy",
        f"Other work on the container of {name} did not end within {PATIENCE:.0f} s.",
        "The next round goes on.",
        Remedy.WAIT,
    )


def _still_different(name: str) -> LxcGpuError:
    return LxcGpuError(
        "still-different",
        f"{name} is not as wanted, although the change was made without an error.",
        "See `lxc-gpu plan` for what differs; something else may be changing it back.",
    )
