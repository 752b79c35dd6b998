"""YAML as the state's files use it: one document of mappings, lists, texts, numbers and booleans.

What YAML offers beyond that (anchors, aliases, tags, several documents, directives, duplicate
fields) is refused, and so is what YAML 1.1 and 1.2 read differently. libyaml yields the events, by
way of ruamel.yaml; the values are made here, which is four times as fast as its constructors and
keeps the position of every value. No other parser stands in for libyaml: ruamel.yaml's own refuses
other texts (a tab before a value), and the gate and all servers must judge a commit alike.

Most files are as simple as we write them: `field: words` and lists of words. Those are read without
ruamel.yaml, five times as fast.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from state.errors import no_package
from state.reading.problems import Place

Document = dict[str, Any]
"""The plain values of one file."""

LARGEST_FILE = 64 * 1024
"""Bytes."""
_DEEPEST = 20

_FORBIDDEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ufffe]|\r(?!\n)"
)
_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,18})", re.ASCII)
_FRACTION = re.compile(r"-?(0|[1-9][0-9]{0,15})\.[0-9]{1,15}", re.ASCII)
_AMBIGUOUS = re.compile(
    r"[-+]?0[box][0-9a-fA-F_]+"
    r"|[-+]?([0-9_]*|([0-9][0-9_]*)?\.[0-9_]*)([eE][-+]?[0-9]+)?(?<=[0-9_])"
    r"|[-+]?[0-9][0-9_]*\."
    r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
    r"|[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([Tt].*|[ \t]+[0-9]+:[0-9]+:.*)?",
    re.ASCII,
)
_WORDS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}

_MORE = r"[\w/+=@.,()'-]"
_SIMPLE_VALUE = rf"[\w/]{_MORE}*(?: {_MORE}+)*"
_SIMPLE_FIELD = rf"([a-z_]{{1,60}}):(?: ({_SIMPLE_VALUE})|((?:\n  - {_SIMPLE_VALUE})+))\n"
"""A field in the only form that needs no YAML parser: no quotes, comments, brackets, nor anything
else that YAML gives a meaning to (YAML 1.2.2 section 5.3, and 7.3.3 for plain texts)."""
_SIMPLE_FIELDS = re.compile(_SIMPLE_FIELD)
_SIMPLE_FILE = re.compile(f"(?:{_SIMPLE_FIELD})+")


class BadYamlError(ValueError):
    """A file that can't be read; `line` counts from 1, 0 for the file as a whole."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


@dataclass(frozen=True)
class Span:
    """Where a value stands: lines and columns count from 0, `end` is the first one after it."""

    key: tuple[int, int]
    """Where its field name, or the value of a list entry, begins."""
    start: tuple[int, int]
    end: tuple[int, int]
    flow: bool
    """Whether it is a list or mapping in brackets."""


Spans = dict[Place, Span]


def parse(content: bytes, spans: Spans | None = None) -> Document:
    """The values in `content`; where each one stands is added to `spans`, if given.

    BadYamlError says what is not allowed, for people.
    """
    text = _text(content)
    if spans is None and (simple := _simple(text)) is not None:
        return simple
    from ruamel.yaml.error import YAMLError

    try:
        return _Reader(_events(text), spans).document()
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        problem = getattr(error, "problem", None) or "it can't be read"
        line = mark.line + 1 if mark is not None else 0
        raise BadYamlError(line, f"this isn't valid YAML: {problem}") from None


def scalar(text: str) -> str | int | float | bool | None:
    """What `text` means when it stands without quotes. ValueError if that isn't clear."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in "-+.0123456789":
        return text
    if _INTEGER.fullmatch(text):
        return int(text)
    if _FRACTION.fullmatch(text):
        return float(text)
    if _AMBIGUOUS.fullmatch(text):
        raise ValueError(
            f"`{text[:40]}` may be read as different numbers, dates or text:"
            " write a plain decimal number, or put it in quotes"
        )
    return text


def _text(content: bytes) -> str:
    if len(content) > LARGEST_FILE:
        raise BadYamlError(0, f"the file is larger than {LARGEST_FILE // 1024} KiB")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise BadYamlError(line, "the file is not text in UTF-8") from None
    if found := _FORBIDDEN.search(text):
        line = text.count("\n", 0, found.start()) + 1
        raise BadYamlError(line, f"a control character (U+{ord(found[0]):04X}) is not allowed")
    return text


def _simple(text: str) -> Document | None:
    """The values in `text` if it is simple and sound; None leaves it to the parser."""
    if not _SIMPLE_FILE.fullmatch(text):
        return None
    found = _SIMPLE_FIELDS.findall(text)
    try:
        fields: Document = {
            name: scalar(value) if value else [scalar(e[4:]) for e in entries[1:].split("\n")]
            for name, value, entries in found
        }
    except ValueError:
        return None
    return fields if len(fields) == len(found) else None


def _events(text: str) -> Iterator[Any]:
    try:
        from _ruamel_yaml import CParser  # type: ignore[import-not-found,unused-ignore]
    except ImportError as error:  # ruamel.yaml can do without, so it may be there alone
        raise no_package("ruamel.yaml.clib") from error
    return iter(CParser(text).get_event, None)


class _Reader:
    """Makes plain values of a parser's events, and notes where they stand."""

    def __init__(self, events: Iterator[Any], spans: Spans | None) -> None:
        from ruamel.yaml import events as kinds

        self._next: Callable[[], Any] = events.__next__
        self._spans = spans
        self._scalar = kinds.ScalarEvent
        self._mapping, self._mapping_end = kinds.MappingStartEvent, kinds.MappingEndEvent
        self._sequence, self._sequence_end = kinds.SequenceStartEvent, kinds.SequenceEndEvent
        self._alias, self._document = kinds.AliasEvent, kinds.DocumentStartEvent

    def document(self) -> Document:
        self._next()  # the stream's start
        start = self._next()
        if not isinstance(start, self._document):
            raise BadYamlError(0, "the file is empty")
        if start.version or start.tags:
            raise BadYamlError(1, "directives (lines with `%`) are not allowed")
        event = self._next()
        value = self._value(event, (), event)
        if value is None:
            raise BadYamlError(0, "the file is empty")
        if not isinstance(value, dict):
            raise BadYamlError(_line(event), "the file must consist of `field: value` lines")
        self._next()  # the document's end
        after = self._next()
        if isinstance(after, self._document):
            raise BadYamlError(_line(after), "a file holds one document only (a second `---`)")
        return value

    def _value(self, event: Any, place: Place, key: Any) -> Any:
        if isinstance(event, self._alias) or event.anchor is not None:
            raise BadYamlError(_line(event), "anchors (`&x`) and aliases (`*x`) are not allowed")
        if event.tag is not None:
            raise BadYamlError(_line(event), "tags (`!x`) are not allowed")
        end = event
        value: Any
        if isinstance(event, self._scalar):
            value = self._scalar_value(event)
        elif len(place) > _DEEPEST:
            raise BadYamlError(_line(event), "this is nested too deeply")
        elif isinstance(event, self._mapping):
            value, end = self._fields(place)
        else:
            value, end = self._entries(place)
        if self._spans is not None:
            flow = bool(getattr(event, "flow_style", False))
            marks = (key.start_mark, event.start_mark, end.end_mark)
            at, start, stop = (_position(mark) for mark in marks)
            self._spans[place] = Span(at, start, stop, flow)
        return value

    def _scalar_value(self, event: Any) -> Any:
        if not event.implicit[0]:
            return event.value
        try:
            return scalar(event.value)
        except ValueError as error:
            raise BadYamlError(_line(event), str(error)) from None

    def _fields(self, place: Place) -> tuple[Document, Any]:
        fields: Document = {}
        while not isinstance(event := self._next(), self._mapping_end):
            if not isinstance(event, self._scalar) or event.anchor or event.tag is not None:
                raise BadYamlError(_line(event), "a field's name must be a plain word")
            name = event.value
            if name in fields:
                raise BadYamlError(_line(event), f"`{name}` is there twice")
            fields[name] = self._value(self._next(), (*place, name), event)
        return fields, event

    def _entries(self, place: Place) -> tuple[list[Any], Any]:
        entries: list[Any] = []
        while not isinstance(event := self._next(), self._sequence_end):
            entries.append(self._value(event, (*place, len(entries)), event))
        return entries, event


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1


def _position(mark: Any) -> tuple[int, int]:
    return int(mark.line), int(mark.column)
