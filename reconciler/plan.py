"""Desired against observed: one diff for all kinds of things, pure.

A kind of thing on a server is one module below `reconciler.kinds` with the same four methods:
`desired`, `observe`, `apply` and `describe`. Nothing here writes: `lxc-gpu plan` prints what this
module gives, and never calls `apply`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from enum import Enum
from types import MappingProxyType
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from state.errors import LxcGpuError, mistake, os_error
from state.view import View
from state.wire.messages import NOBODY, Failure, Progress, failure

R = TypeVar("R")
Tell = Callable[[Progress], None]
"""Where progress goes: a terminal, a stream to another machine, or nowhere."""


class Lock(Enum):
    """What keeps two rounds from applying the same kind at the same time."""

    GLOBAL = "global"
    """The one global lock; the kind applies all its changes at once."""
    USER = "user"
    """The lock of the user whose thing it is; changes are applied one by one."""


class Change(NamedTuple, Generic[R]):
    """One thing that differs. `before` None: to be made; `after` None: to be taken away."""

    name: str
    before: R | None
    after: R | None


class Observed(NamedTuple, Generic[R]):
    """What is there. A name in neither mapping is truly absent; unreadable is not empty."""

    found: Mapping[str, R]
    unreadable: Mapping[str, LxcGpuError] = MappingProxyType({})


class Kind(Protocol[R]):
    """One kind of thing on a server."""

    @property
    def name(self) -> str:
        """What it is called in plans, reports and the journal."""
        ...

    @property
    def lock(self) -> Lock:
        """What has to be held while it applies."""
        ...

    @property
    def per_user(self) -> bool:
        """Whether its names are users. A round for one user includes all of a kind whose names
        aren't."""
        ...

    def desired(self, view: View) -> Mapping[str, R]:
        """What the view wants, and what users chose on this server (`reconciler.network.forwards`).

        Asked again under the global lock, where that is held. LxcGpuError if a choice can't be
        read: then nothing of this kind is changed.
        """
        ...

    def observe(self, view: View, names: Collection[str]) -> Observed[R]:
        """What is there of `names`, and whatever else of this kind is ours. Only reads."""
        ...

    def apply(
        self, view: View, changes: Sequence[Change[R]], tell: Tell
    ) -> Mapping[str, LxcGpuError]:
        """Make the changes; say what failed, by name. The others are made all the same."""
        ...

    def describe(self, change: Change[R]) -> str:
        """The change in words that a person reads in a plan."""
        ...


AnyKind = Kind[Any]


def diff(
    desired: Mapping[str, R],
    observed: Observed[R],
    only: str | None = None,
    leave: Collection[str] = (),
) -> tuple[Change[R], ...]:
    """What differs: removals first, then what changes, then what is new.

    So a revocation never waits for a container that is being unpacked. `only` leaves out every
    other name; what is unreadable and what is in `leave` is left out, too.
    """
    names = sorted(desired.keys() | observed.found.keys())
    changes = [
        Change(name, observed.found.get(name), desired.get(name))
        for name in names
        if name not in observed.unreadable
        and name not in leave
        and (only is None or name == only)
        and desired.get(name) != observed.found.get(name)
    ]
    return tuple(sorted(changes, key=lambda c: (c.after is not None, c.before is None)))


class Planned(NamedTuple):
    """One line of a plan."""

    kind: str
    name: str
    words: str
    failure: Failure | None = None
    """Why nothing is known, so that nothing is done: not a change, and a failure of a round."""


def plan(kinds: Sequence[AnyKind], view: View, only: str | None = None) -> tuple[Planned, ...]:
    """Everything that a round would do, in its order. Only reads."""
    lines: list[Planned] = []
    left: set[str] = set()  # users of whom something can't be read: nothing is built on that
    for kind in kinds:
        try:
            desired = kind.desired(view)
            observed = kind.observe(view, desired.keys())
        except LxcGpuError as error:
            lines.append(_unread(kind, error))
            continue
        except OSError as error:
            lines.append(_unread(kind, os_error(error)))
            continue
        except Exception as error:  # a round says where it was (reconciler.rounds.converge)
            lines.append(_unread(kind, mistake(error)))
            continue
        whose = only if kind.per_user else None
        lines += [
            _unread(kind, error, name)
            for name, error in sorted(observed.unreadable.items())
            if whose in (None, name)
        ]
        lines += [
            Planned(kind.name, change.name, kind.describe(change))
            for change in diff(desired, observed, whose, left if kind.per_user else ())
        ]
        if kind.per_user:
            left |= observed.unreadable.keys()
    return tuple(lines)


def _unread(kind: AnyKind, why: LxcGpuError, name: str = NOBODY) -> Planned:
    return Planned(kind.name, name, why.message, failure(kind.name, name, why))
