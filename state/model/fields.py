"""The types that the models of the state repository's files are built from, with their rules."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import datetime
from ipaddress import IPv4Address, IPv4Network
from pathlib import PurePosixPath
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    WithJsonSchema,
)

from state.model.keys import PublicKey, parse_key


def _path(text: str) -> str:
    path = PurePosixPath(text)
    if not path.is_absolute() or ".." in path.parts or str(path) != text:
        raise ValueError("must be an absolute path without `..`, `//` or a slash at the end")
    if not re.fullmatch(r"[A-Za-z0-9/._-]+", text):
        raise ValueError("may hold letters, digits, `/`, `.`, `_` and `-` only")
    return text


def _person(text: str) -> str:
    if not text.strip() or text != text.strip():
        raise ValueError("must not be empty, nor begin or end with blanks")
    if any(not c.isprintable() for c in text) or ":" in text:
        raise ValueError("may not hold colons or control characters (it goes into passwd(5))")
    return text


def _login(text: str) -> str:
    if text != text.strip() or not all(c.isprintable() for c in text):
        raise ValueError("may not begin or end with blanks, nor hold control characters")
    return text


def _line(text: str) -> str:
    if not text.strip() or text != text.strip() or not text.isprintable():
        raise ValueError("must be one line, without blanks around it")
    return text


def web_url(text: str) -> str:
    """`text` without slashes at its end; ValueError if it isn't an address of a web page."""
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        raise ValueError("must look like https://iam.example.org")
    if parts.port == 0 or parts.query or parts.fragment or not re.fullmatch(r"[!-~]+", text):
        raise ValueError("must have no query or fragment, and no spaces")
    return text.rstrip("/")


def _written(value: object) -> object:
    """`value`, unless it is a number: ipaddress would take one for an address."""
    if not isinstance(value, (str, IPv4Address, IPv4Network)):
        raise ValueError("must be an IPv4 address, such as 172.16.2.17")
    return value


Address = Annotated[IPv4Address, BeforeValidator(_written)]
Network = Annotated[IPv4Network, BeforeValidator(_written)]
Key = Annotated[
    PublicKey,
    PlainValidator(lambda value: value if isinstance(value, PublicKey) else parse_key(value)),
    PlainSerializer(str),
    WithJsonSchema({"type": "string", "description": "One line of an OpenSSH public key file."}),
]
FullName = Annotated[str, Field(max_length=200), AfterValidator(_person)]
Login = Annotated[str, Field(min_length=1, max_length=256), AfterValidator(_login)]
Page = Annotated[str, Field(max_length=200), AfterValidator(web_url)]
"""The address of a web page, without a slash at its end."""
AbsolutePath = Annotated[str, Field(max_length=200), AfterValidator(_path)]
Line = Annotated[str, Field(max_length=100), AfterValidator(_line)]
"""One line of words for people."""
TemplateName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{0,60}$")]
Port = Annotated[int, Field(strict=True, ge=1024, le=65535)]
Id = Annotated[int, Field(strict=True, ge=1000, lt=2**32 - 1)]


_SIZE = re.compile(r"([1-9][0-9]{0,14})([KMGT]?)", re.ASCII)
_UNITS = ("", "K", "M", "G", "T")


def _size(value: object) -> int:
    match = _SIZE.fullmatch(str(value)) if isinstance(value, (str, int)) else None
    if match is None or isinstance(value, bool):
        raise ValueError("must be a size such as 64G (K, M, G and T are powers of 1024)")
    return int(match[1]) << 10 * _UNITS.index(match[2])


def size_text(number: int) -> str:
    """A number of bytes as the files spell it: `64G`."""
    unit = max(n for n in range(len(_UNITS)) if number % 1024**n == 0)
    return f"{number // 1024**unit}{_UNITS[unit]}"


Size = Annotated[
    int,
    PlainValidator(_size),
    PlainSerializer(size_text),
    WithJsonSchema({"type": ["string", "integer"], "description": "Bytes; e.g. 64G or 512M."}),
]
"""Bytes; spelled `64G` in the files."""


_EVERY = re.compile(r"([1-9][0-9]{0,3})([hdw])", re.ASCII)
_HOURS = {"h": 1, "d": 24, "w": 7 * 24}


def _every(value: object) -> int:
    match = _EVERY.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("must be a time such as 6h, 1d or 1w")
    return int(match[1]) * _HOURS[match[2]]


def every_text(hours: int) -> str:
    """A number of hours as the files spell it: `1d`."""
    unit = max((u for u in _HOURS if hours % _HOURS[u] == 0), key=lambda u: _HOURS[u])
    return f"{hours // _HOURS[unit]}{unit}"


Every = Annotated[
    int,
    PlainValidator(_every),
    PlainSerializer(every_text),
    WithJsonSchema({"type": "string", "description": "A time; e.g. 6h, 1d or 1w."}),
]
"""Hours; spelled `1d` in the files."""


_DAYS = re.compile(r"([1-9][0-9]{0,3})([dw])", re.ASCII)


def _days(value: object) -> int:
    match = _DAYS.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("must be a number of days or weeks, such as 14d or 2w")
    return int(match[1]) * _HOURS[match[2]] // 24


Days = Annotated[
    int,
    PlainValidator(_days),
    PlainSerializer(lambda days: f"{days}d"),
    WithJsonSchema({"type": "string", "description": "Days or weeks; e.g. 14d or 2w."}),
]
"""Days; spelled `14d` in the files."""


_MOMENT = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}) ([0-9]{2}:[0-9]{2}) ?(UTC|[+-][0-9]{2}:[0-9]{2})", re.ASCII
)


def seconds_of(moment: str) -> float:
    """A `Moment` in seconds since the epoch. ValueError, worded for people, if it isn't one.

    With its offset, because servers of one fleet may have different time zones.
    """
    match = _MOMENT.fullmatch(moment)
    if match is not None and "2000" <= moment[:4] < "2200":
        day, time, offset = match.groups()
        with suppress(ValueError):  # there is no 31st of February
            return datetime.fromisoformat(
                f"{day}T{time}{offset.replace('UTC', '+00:00')}"
            ).timestamp()
    raise ValueError(
        "must be a moment with its offset from UTC, such as 2026-12-01 08:00 +01:00"
        " (`date '+%F %H:%M %:z'` prints the present one)"
    )


def _moment(text: str) -> str:
    seconds_of(text)
    return text


Moment = Annotated[str, AfterValidator(_moment)]
"""A moment, by the minute, as the files spell it: `2026-12-01 08:00 +01:00`."""
Reason = Annotated[str, Field(max_length=200), AfterValidator(_line)]
"""One line that says why."""


class Model(BaseModel):
    """What all models share: frozen, and unknown fields are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    @classmethod
    def names_in_file(cls) -> dict[str, str]:
        """How the file spells each field, by the field's name here, in order."""
        return {name: field.alias or name for name, field in cls.model_fields.items()}
