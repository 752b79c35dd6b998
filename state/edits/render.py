"""Writes a changed state back to files: only what differs; the rest stays to the letter.

The text of an existing file is edited at the positions of its values (`state.reading.syntax`), so
that comments, order and layout survive. The result is read again and must say what was wanted. If
the text can't be edited like that (a list in brackets, say), that one is rewritten.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from state.model.documents import State
from state.model.fields import Model
from state.model.layout import Subject
from state.reading.load import dump
from state.reading.syntax import BadYamlError, Document, Span, Spans, parse

_STEP = "  "
_TOUCHY = frozenset(("yes", "no", "on", "off", "y", "n"))
"""Words that are booleans in YAML 1.1, which other tools still read."""


def render(old: State | None, new: State, files: Mapping[str, bytes]) -> dict[str, bytes | None]:
    """The files that differ in `new`, by path: their new content, or None to delete one.

    `files` holds the content of the files of `old`, at least of those that change. A user who
    moves between users/ and former/ keeps the text of their file.
    """
    before = dict(_models(old)) if old is not None else {}
    after = dict(_models(new))
    changed: dict[str, bytes | None] = {
        subject.path: None for subject in before if subject not in after
    }
    for subject, model in after.items():
        source = subject if subject in before else _elsewhere(subject)
        if subject in before and (before[subject] is model or _equal(before[subject], model)):
            continue
        text = files.get(source.path) if source in before else None
        changed[subject.path] = write(model, text)
    return changed


def touched(old: State | None, new: State) -> tuple[str, ...]:
    """The paths of the existing files that `render` needs the content of."""
    before = dict(_models(old)) if old is not None else {}
    after = dict(_models(new))
    gone = {subject.path for subject in before if subject not in after}
    both = {s.path for s, m in after.items() if s in before and before[s] is not m}
    return tuple(sorted(gone | both))


def write(model: Model, text: bytes | None = None) -> bytes:
    """The content of a file that says `model`, made from the `text` that was there before."""
    wanted = dump(model)
    if text is not None:
        with suppress(ValueError):  # what can't be edited is written from scratch
            edited = _rewritten(model, wanted, text)
            if _says(edited, model):
                return edited
    return "".join(_field(name, value) for name, value in wanted.items()).encode()


def _rewritten(model: Model, wanted: Document, text: bytes) -> bytes:
    order = list(type(model).names_in_file().values())
    said = parse(text)
    known = dump(type(model).model_validate(said))
    for name in order:
        if known.get(name) != wanted.get(name):
            text = _edited(text, name, wanted.get(name), order)
    return text


def _says(text: bytes, model: Model) -> bool:
    return _equal(type(model).model_validate(parse(text)), model)


def _equal(one: Model, other: Model) -> bool:
    """Whether two models are identical, including comments of keys."""
    return one == other and dump(one) == dump(other)


def _models(state: State) -> Iterator[tuple[Subject, Model]]:
    yield Subject("fleet"), state.fleet
    for name, server in state.servers.items():
        yield Subject("servers", name), server
    for name, user in state.users.items():
        yield Subject("users", name), user
    for name, user in state.former.items():
        yield Subject("former", name), user
    for server_name, users in state.registrations.items():
        for name, registration in users.items():
            yield Subject("registrations", name, server_name), registration
    for name, announcement in state.announcements.items():
        yield Subject("announcements", name), announcement


def _elsewhere(subject: Subject) -> Subject:
    """Where the file was before a person left or came back."""
    if subject.kind == "users":
        return Subject("former", subject.name)
    return Subject("users", subject.name) if subject.kind == "former" else subject


def _edited(text: bytes, field: str, value: Any, order: list[str]) -> bytes:
    """`text` with `value` in `field` (None: without the field); the rest is unchanged."""
    page = _Page(text)
    if page.spans[()].flow:
        raise BadYamlError(1, "a file in one pair of brackets")
    if value is None:
        page.replace(field, [])
    elif field not in page.fields:
        page.insert(field, value, order)
    elif not (page.edit_scalar(field, value) or page.edit_entries(field, value)):
        page.replace(field, [_field(field, value)])
    return "".join(page.lines).encode()


class _Page:
    """The lines of a file, and the positions of its values."""

    def __init__(self, text: bytes) -> None:
        self.spans: Spans = {}
        self.fields: Document = parse(text, self.spans)
        self.lines = text.decode("utf-8").splitlines(keepends=True)
        if not self.lines[-1].endswith("\n"):
            self.lines[-1] += "\n"

    def block(self, field: str) -> tuple[int, int]:
        """The first line of `field` and the one after its last, comments that follow left out."""
        span = self.spans[(field,)]
        first, end = span.key[0], span.end[0] + (span.end[1] > 0)
        while end > first + 1 and not self.lines[end - 1].partition("#")[0].strip():
            end -= 1
        return first, max(end, first + 1)

    def replace(self, field: str, lines: list[str]) -> None:
        """Put `lines` in the place of `field`; lines of comments between its own stay."""
        first, end = self.block(field)
        comments = [line for line in self.lines[first:end] if line.lstrip().startswith("#")]
        self.lines[first:end] = [*lines, *comments]

    def insert(self, field: str, value: Any, order: list[str]) -> None:
        """Write a new field after the one that comes before it in `order`, else at the end."""
        earlier = [name for name in order[: order.index(field)] if name in self.fields]
        at = self.block(earlier[-1])[1] if earlier else len(self.lines)
        self.lines.insert(at, _field(field, value))

    def edit_scalar(self, field: str, value: Any) -> bool:
        """Put `value` in the place of the old one, if both are single words on one line."""
        span, old = self.spans[(field,)], self.fields[field]
        if isinstance(value, (list, dict)) or isinstance(old, (list, dict)) or not _filled(span):
            return False
        number = span.start[0]
        line = self.lines[number]
        self.lines[number] = line[: span.start[1]] + _scalar(value) + line[span.end[1] :]
        return True

    def edit_entries(self, field: str, value: Any) -> bool:
        """Take out and put in lines `- entry`; those that stay keep their place and comments."""
        old = self.fields[field]
        if not (isinstance(old, list) and isinstance(value, list) and old and value):
            return False
        spans = [self.spans[(field, number)] for number in range(len(old))]
        kept = [entry for entry in old if entry in value]
        dash = self.lines[spans[0].key[0]][: spans[0].key[1]]
        if (
            dash.strip() != "-"
            or not all(
                _filled(span) and isinstance(e, str) for span, e in zip(spans, old, strict=True)
            )
            or kept != [entry for entry in value if entry in old]
        ):
            return False
        added = _followers(old, value)
        for number in reversed(range(len(old))):
            line = spans[number].key[0]
            fresh = [f"{dash}{_scalar(entry)}\n" for entry in added.get(number, ())]
            self.lines[line : line + 1] = [self.lines[line], *fresh] if old[number] in kept else []
        top = spans[0].key[0]
        self.lines[top:top] = [f"{dash}{_scalar(entry)}\n" for entry in added.get(-1, ())]
        return True


def _filled(span: Span) -> bool:
    """Whether a value is written on one line, and isn't empty."""
    return span.start[0] == span.end[0] and span.start[1] < span.end[1]


def _followers(old: list[Any], new: list[Any]) -> dict[int, list[Any]]:
    """The entries that are only in `new`, by the place in `old` of the one they follow, or -1."""
    places = {entry: place for place, entry in enumerate(old)}
    followers: dict[int, list[Any]] = {}
    place = -1
    for entry in new:
        if entry in places:
            place = places[entry]
        else:
            followers.setdefault(place, []).append(entry)
    return followers


def _field(name: str, value: Any, indent: str = "") -> str:
    """The lines of one field, in block style."""
    if isinstance(value, dict) and value:
        inner = "".join(_field(key, each, indent + _STEP) for key, each in value.items())
        return f"{indent}{name}:\n{inner}"
    if isinstance(value, list) and value:
        return f"{indent}{name}:\n" + "".join(_entry(each, indent + _STEP) for each in value)
    return f"{indent}{name}: {_scalar(value)}\n"


def _entry(value: Any, indent: str) -> str:
    if not isinstance(value, dict) or not value:
        return f"{indent}- {_scalar(value)}\n"
    fields = "".join(_field(key, each, indent + _STEP) for key, each in value.items())
    return f"{indent}- {fields.removeprefix(indent + _STEP)}"


def _scalar(value: Any) -> str:
    """`value` as one word of YAML: plain where every reader agrees, else in quotes."""
    if not isinstance(value, str):
        return json.dumps(value)  # [] and {} too: an empty one fits in a line
    if value.lower() not in _TOUCHY and "\n" not in value:
        try:
            if parse(f"x: {value}\n".encode()) == {"x": value}:
                return value
        except ValueError:
            pass  # it means something else without quotes
    return json.dumps(value, ensure_ascii=False)
