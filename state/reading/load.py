"""From the files of a state repository to a `State`, or to every problem that they have.

Control flow: `load` parses each file (`state.reading.syntax`), `build` makes typed values of the
plain ones (`state.model.documents`), then `state.reading.check` applies the rules that span files.
What is wrong is collected on the way as broken rules; only then are lines looked up, by parsing the
file again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from state.model.announcements import Announcement
from state.model.documents import FORMAT, Fleet, Registration, Server, State, User
from state.model.fields import Model
from state.model.layout import FLEET, MODELS, Subject, subject_of
from state.reading.check import check
from state.reading.problems import BrokenRule, Problem, StateInvalidError
from state.reading.syntax import BadYamlError, Document, Spans, parse
from state.reading.wording import broken_rules


class NewerStateError(StateInvalidError):
    """A state in a format that only a newer lxc-gpu can read."""


def load(files: Mapping[str, bytes]) -> State:
    """The state that `files`, by their paths in the repository, say. Other files are ignored.

    StateInvalidError carries every problem of all of them; NewerStateError if another version of
    lxc-gpu is needed.
    """
    documents: dict[str, Document] = {}
    problems: list[Problem] = []
    for path, content in files.items():
        try:
            if subject_of(path) is not None:
                documents[path] = parse(content)
        except BadYamlError as error:
            problems.append(Problem(path, error.line, str(error)))
        except ValueError as error:
            problems.append(Problem(path, 0, str(error)))
    return build(documents, lambda path: files[path], problems)


def build(
    documents: Mapping[str, Document],
    content: Callable[[str], bytes],
    problems: list[Problem] | None = None,
    model_of: Callable[[str, Document], Model] | None = None,
) -> State:
    """The state in already parsed `documents`, by their paths, all of which belong to the state.

    `content` gives a file's text again, for the lines of what is wrong; `problems` are those
    that were found before; `model_of` makes one file's model, if not afresh. StateInvalidError
    and NewerStateError as `load`.
    """
    earlier = list(problems or ())
    _refuse_newer(documents.get(FLEET))
    read, found = _validated(documents, model_of or model)
    fleet = read.get(FLEET)
    broken = {problem.path for problem in earlier} | {finding.path for finding in found}
    if isinstance(fleet, Fleet):
        state = _assembled(fleet, read)
        found += check(state, broken)
        if not found and not earlier:
            return state
    elif FLEET not in broken:
        earlier.append(Problem(FLEET, 0, "is missing; every state repository has this file"))
    raise StateInvalidError([*earlier, *located(found, content)])


def located(found: list[BrokenRule], content: Callable[[str], bytes]) -> list[Problem]:
    """`found` with line numbers; each file is parsed again, once."""
    spans: dict[str, Spans] = {}
    problems = []
    for finding in found:
        if finding.path not in spans:
            spans[finding.path] = {}
            try:
                parse(content(finding.path), spans[finding.path])
            except (BadYamlError, KeyError):
                spans[finding.path].clear()
        problems.append(Problem(finding.path, _line(finding, spans[finding.path]), finding.message))
    return problems


def _line(finding: BrokenRule, spans: Spans) -> int:
    """The line of the innermost part of the place that stands in the file; 1 for all of it."""
    place = finding.place
    while place:
        if place in spans:
            return spans[place].key[0] + 1
        place = place[:-1]
    return 1


def _refuse_newer(fleet: Document | None) -> None:
    version = fleet.get("format") if fleet is not None else None
    if isinstance(version, int) and version > FORMAT:
        message = (
            f"this state needs a newer lxc-gpu: it is in format {version},"
            f" and this version reads format {FORMAT}"
        )
        raise NewerStateError(
            [Problem(FLEET, 0, message)],
            "state-newer",
            "Upgrade lxc-gpu on this machine; until then it stays as it is.",
        )


def model(path: str, document: Document) -> Model:
    """The typed values of the file at `path`. ValidationError if they aren't right."""
    return MODELS[_subject(path).kind].model_validate(document)


class Models:
    """Typed values by kind of file and blob id, so that no file is validated twice."""

    def __init__(self) -> None:
        self._known: dict[tuple[type[Model], str], Model] = {}

    def read(self, path: str, blob: str, document: Document) -> Model:
        """The model of a file whose content has this blob id, as `model` makes it."""
        place = (MODELS[_subject(path).kind], blob)
        if place not in self._known:
            self._known[place] = model(path, document)
        return self._known[place]


def _validated(
    documents: Mapping[str, Document], model_of: Callable[[str, Document], Model]
) -> tuple[dict[str, Model], list[BrokenRule]]:
    read: dict[str, Model] = {}
    found: list[BrokenRule] = []
    for path, document in documents.items():
        try:
            read[path] = model_of(path, document)
        except ValidationError as error:
            found += broken_rules(path, MODELS[_subject(path).kind], error)
    return read, found


def _assembled(fleet: Fleet, read: Mapping[str, Model]) -> State:
    """The state of the files that could be read, each kind in the order of names."""
    servers: dict[str, Server] = {}
    people: dict[str, dict[str, User]] = {"users": {}, "former": {}}
    registrations: dict[str, dict[str, Registration]] = {}
    announcements: dict[str, Announcement] = {}
    for path in sorted(read):
        model, subject = read[path], _subject(path)
        if isinstance(model, Server):
            servers[subject.name] = model
        elif isinstance(model, User):
            people[subject.kind][subject.name] = model
        elif isinstance(model, Registration):
            registrations.setdefault(subject.server, {})[subject.name] = model
        elif isinstance(model, Announcement):
            announcements[subject.name] = model
    return State(
        fleet=fleet,
        servers=MappingProxyType(servers),
        users=MappingProxyType(people["users"]),
        registrations=MappingProxyType(
            {server: MappingProxyType(users) for server, users in registrations.items()}
        ),
        former=MappingProxyType(people["former"]),
        announcements=MappingProxyType(announcements),
    )


def _subject(path: str) -> Subject:
    subject = subject_of(path)
    if subject is None:
        raise ValueError(f"{path} isn't a file of the state")
    return subject


def dump(model: Model) -> dict[str, Any]:
    """The plain values of `model` as its file holds them: its fields' order, defaults omitted."""
    return model.model_dump(mode="json", exclude_defaults=True, by_alias=True)
