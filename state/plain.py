"""Frozen data from and to plain JSON values, by their type hints: what machines say, what is kept.

For programs that run on the standard library alone; others take pydantic. Data are dataclasses and
named tuples of numbers, texts, enums, and of tuples and mappings of such, or None. A hint
`Annotated[T, rule]` has `rule` look at each value of T: it returns the value, or raises ValueError.
A value of another type is refused, whatever Python would make of it: true is not a number.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from enum import Enum
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")
_Reader = Callable[[Any], Any]


class NotPlainError(ValueError):
    """A value is not what its type hints say."""


def from_plain(kind: type[T], value: object, *, newer: bool = False) -> T:
    """The data that `to_plain` made `value` of. NotPlainError if it isn't of that kind.

    With `newer`, fields that nobody here knows are passed over: a newer release wrote them.
    """
    read = _reader(kind, newer)  # type: ignore[arg-type]  # it is hashable
    try:
        made: T = read(value)
    except (TypeError, ValueError, ArithmeticError, AttributeError, RecursionError) as error:
        raise NotPlainError(f"not a {kind.__name__}: {error}") from error
    return made


def to_plain(value: Any) -> Any:
    """`value` as JSON has it."""
    if (names := _names(type(value))) is not None:
        return {name: to_plain(getattr(value, name)) for name in names}
    if isinstance(value, Mapping):
        return {key: to_plain(each) for key, each in value.items()}
    if isinstance(value, (tuple, list)):
        return [to_plain(each) for each in value]
    return value


def parsed(text: str | bytes) -> Any:
    """The value that a JSON text says. NotPlainError if it says none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise NotPlainError(f"not JSON: {error}") from error


def from_json(kind: type[T], text: str | bytes, *, newer: bool = False) -> T:
    """The data that `to_json` wrote. NotPlainError if that is damaged."""
    return from_plain(kind, parsed(text), newer=newer)


def to_json(value: object) -> str:
    """`value` as one line."""
    return json.dumps(to_plain(value), separators=(",", ":"), ensure_ascii=False) + "\n"


def not_negative(value: float) -> float:
    """A rule for lengths of time."""
    if value < 0:
        raise ValueError(f"{value} is negative")
    return value


Seconds = Annotated[float, not_negative]


def _names(kind: type) -> tuple[str, ...] | None:
    """The fields of data of that kind; None if it isn't of ours."""
    return getattr(kind, "__match_args__", None)


@cache
def _reader(hint: Any, newer: bool) -> _Reader:
    origin, args = get_origin(hint), get_args(hint)
    if hint is Any:
        return _writable
    if hint is float:
        return _number
    if hint is str:
        return _text
    if hint is dict:
        return lambda value: _writable(_exactly(dict)(value))
    if hint in (int, bool, NoneType):
        return _exactly(hint)
    if origin is Annotated:
        return _ruled(_reader(args[0], newer), args[1:])
    if origin in (Union, UnionType):
        return _optional(
            [_reader(each, newer) for each in args if each is not NoneType], NoneType in args
        )
    if origin is tuple:
        return _tuple([_reader(each, newer) for each in args if each is not ...], ... in args)
    if origin is not None and issubclass(origin, Mapping):
        return _mapping(*[_reader(each, newer) for each in args])
    if _names(hint) is not None:
        return _data(hint, newer)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return hint
    raise NotImplementedError(f"values of {hint} are not read")


def _exactly(kind: type) -> _Reader:
    def read(value: Any) -> Any:
        if type(value) is not kind:  # True isn't a number
            raise TypeError(f"{kind.__name__} expected, not {type(value).__name__}")
        return value

    return read


def _text(value: Any) -> str:
    if type(value) is not str:
        raise TypeError(f"str expected, not {type(value).__name__}")
    if not value.isascii():
        value.encode("utf-8", "surrogateescape")  # what `files` can't write was never written
    return value


def _writable(value: Any) -> Any:
    """The value, whatever it is. UnicodeEncodeError (a ValueError) if there is a text in it that
    `files` can't write."""
    json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogateescape")
    return value


def _number(value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):
        raise TypeError("a finite number expected")
    return float(value)


def _ruled(read: _Reader, rules: tuple[_Reader, ...]) -> _Reader:
    def ruled(value: Any) -> Any:
        made = read(value)
        for rule in rules:
            made = rule(made)
        return made

    return ruled


def _optional(readers: list[_Reader], none: bool) -> _Reader:
    (read,) = readers
    return lambda value: None if none and value is None else read(value)


def _tuple(readers: list[_Reader], many: bool) -> _Reader:
    as_list = _exactly(list)
    if many:
        return lambda value: tuple(map(readers[0], as_list(value)))
    return lambda value: tuple(read(one) for read, one in zip(readers, as_list(value), strict=True))


def _mapping(read_key: _Reader, read: _Reader) -> _Reader:
    as_dict = _exactly(dict)
    return lambda value: {read_key(key): read(each) for key, each in as_dict(value).items()}


def _data(kind: Any, newer: bool) -> _Reader:
    as_dict = _exactly(dict)
    hints = get_type_hints(kind, include_extras=True)
    readers = {name: _reader(hints[name], newer) for name in _names(kind) or ()}

    def read(value: Any) -> Any:
        fields = as_dict(value)
        if not (newer or fields.keys() <= readers.keys()):
            raise TypeError(f"unknown: {', '.join(fields.keys() - readers.keys())}")
        return kind(
            **{name: each(fields[name]) for name, each in readers.items() if name in fields}
        )

    return read
