"""The states of consecutive commits, each made of the one before and the files that changed.

So judging a thousand commits costs what they changed, not a thousand states. Rules that span files
are not applied here: a revision is read in full before it is published.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, TypeVar

from pydantic import ValidationError

from state.git.repository import Repository
from state.model.documents import Fleet, State
from state.model.fields import Model
from state.model.layout import FLEET, MODELS, Subject, subject_of
from state.reading.problems import StateInvalidError
from state.reading.syntax import Document
from state.reading.wording import broken_rules
from state.trust.lineage import PLAIN_MODES, ChangedPath

V = TypeVar("V")


class UnreadableStateError(ValueError):
    """A state some of whose files can't be read; the message names them."""


class Fleets:
    """What fleet.yaml says, by its blob: a walk asks at every commit, and it hardly changes."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._known: dict[tuple[str, str], Fleet] = {}

    def at(self, tree: str) -> tuple[str, str]:
        """Mode and blob of fleet.yaml in `tree`, for `read`."""
        return self._repository.trees.entry(tree, FLEET)

    def read(self, entry: tuple[str, str]) -> Fleet:
        """The fleet that `entry` says. UnreadableStateError; NewerStateError as `load`."""
        if entry not in self._known:
            from state.reading.load import NewerStateError, load

            mode, blob = entry
            if mode not in PLAIN_MODES:
                raise UnreadableStateError(f"{FLEET} is missing, or no plain file")
            try:
                content = self._repository.trees.content(blob)
                self._known[entry] = load({FLEET: content}).fleet
            except NewerStateError:
                raise
            except StateInvalidError as error:
                raise UnreadableStateError(str(error.problems[0])) from None
        return self._known[entry]


class Replay:
    """A state that moves on by what commits change."""

    def __init__(self, repository: Repository, tree: str, later: Iterable[ChangedPath]) -> None:
        """Begin at `tree`; the blobs of the `later` changes are read at once, too."""
        self._models = repository.models
        blobs, problems = repository.trees.blobs(tree)
        ids = [*blobs.values(), *(e.blob for e in later if _ours(e))]
        self._documents, self._wrong = repository.trees.parsed(ids)
        self._state = State(fleet=Fleet(format=1))
        self._broken = {problem.path: str(problem) for problem in problems}
        self.advance([ChangedPath(path, PLAIN_MODES[0], blob) for path, blob in blobs.items()])

    def state(self) -> State:
        """The state at this point. UnreadableStateError if not all of it can be read."""
        if self._broken:
            raise UnreadableStateError(min(self._broken.values()))
        return self._state

    def advance(self, changed: Iterable[ChangedPath]) -> None:
        """Take over what one commit changed."""
        groups: dict[tuple[str, str], dict[str, Model | None]] = {}
        for entry in changed:
            self._broken.pop(entry.path, None)
            try:
                subject = subject_of(entry.path)
                if subject is None:
                    continue
                read = self._read(entry) if entry.blob else None
            except ValueError as error:  # a bad name, or pydantic's ValidationError
                read, subject = None, _subject(entry.path)
                if entry.blob:
                    self._broken[entry.path] = f"{entry.path!r}: {_why(entry.path, error)}"
            if subject is not None:
                groups.setdefault((subject.kind, subject.server), {})[subject.name] = read
        for (kind, server), models in groups.items():
            self._state = _with(self._state, kind, server, models)

    def _read(self, entry: ChangedPath) -> Model:
        if entry.mode not in PLAIN_MODES:
            raise ValueError("must be a plain file, no link or submodule")
        if entry.blob in self._wrong:
            raise ValueError(self._wrong[entry.blob][1])
        document: Document = self._documents[entry.blob]
        return self._models.read(entry.path, entry.blob, document)


def _ours(entry: ChangedPath) -> bool:
    return bool(entry.blob) and entry.mode in PLAIN_MODES and _subject(entry.path) is not None


def _why(path: str, error: ValueError) -> str:
    """`error` in words for people."""
    subject = _subject(path)
    if subject is None or not isinstance(error, ValidationError):
        return str(error)
    return broken_rules(path, MODELS[subject.kind], error)[0].message


def _subject(path: str) -> Subject | None:
    try:
        return subject_of(path)
    except ValueError:
        return None


def _with(state: State, kind: str, server: str, models: Mapping[str, Model | None]) -> State:
    """`state` with these models of one kind; None takes one away."""
    if kind == "fleet":
        fleet = next(iter(models.values()))
        return replace(state, fleet=fleet) if isinstance(fleet, Fleet) else state
    if kind != "registrations":
        fields: dict[str, Any] = {kind: _merged(getattr(state, kind), models)}
        return replace(state, **fields)
    there = _merged(state.registrations.get(server, {}), models)
    both = {**state.registrations, server: there}
    return replace(state, registrations={s: r for s, r in both.items() if r})


def _merged(old: Mapping[str, V], models: Mapping[str, Any]) -> Mapping[str, V]:
    merged = {**old, **models}
    if None in models.values():
        merged = {name: model for name, model in merged.items() if model is not None}
    return MappingProxyType(merged)
