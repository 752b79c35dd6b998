"""What the machines say to each other: one JSON object a line, over ssh and over the root socket.

A stream is any number of `Progress`, then one `Report`, `Answer`, `Question` or `Refusal`, which
ends it.
What comes from another machine is checked for its types here, and cut to a sane length; unknown
fields are ignored, so that an older side understands a newer one.
Standard library only, and named tuples: the login shell reads these, and would wait for what
dataclasses load.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from state.errors import LxcGpuError, Remedy

LONGEST_LINE = 1_000_000
"""Bytes; a longer line is no message of ours."""
LONGEST_ANSWER = 500_000
"""Letters: a table of hundreds of reservations, a calendar of them."""
LATEST = 253_402_300_799.0
"""The end of the year 9999, in seconds since the epoch: no calendar goes further."""
MOST_KEY_DAYS = 3000
"""Keys whose last day a server remembers and reports."""
MOST_DRIFT = 20
"""Drifts that a server remembers and reports."""
_FINGERPRINT = r"SHA256:[A-Za-z0-9+/]{43}"
_DAY = r"20[0-9][0-9]-[01][0-9]-[0-3][0-9]"


class Progress(NamedTuple):
    """One step of something that takes a while; `fraction` (0 to 1) where it is known."""

    text: str
    fraction: float | None = None


class Failure(NamedTuple):
    """One thing that a round could not put right."""

    kind: str
    name: str
    """Whose: a user's name, or what the kind calls its things."""
    code: str
    message: str
    hint: str = ""


class Drift(NamedTuple):
    """Something that was changed on a server by hand, and put back by a round."""

    when: float
    """Seconds since the epoch, by the server's clock, when it was noticed."""
    words: str
    """What the round did about it."""


class Report(NamedTuple):
    """What one round on one server came to."""

    server: str
    revision: str
    """The revision that the server is on."""
    finished: float
    """Seconds since the epoch, by the server's clock."""
    seconds: float
    """How long the round took."""
    changes: tuple[str, ...] = ()
    """What was changed, in words."""
    failures: tuple[Failure, ...] = ()
    refused: str = ""
    """Why a newer revision was not taken; empty if none was refused."""
    suspended: str = ""
    """Why a sysadmin has the server hold still; empty if it doesn't. Then nothing was done."""
    drift: tuple[Drift, ...] = ()
    """What drifted lately, the newest last."""
    key_days: Mapping[str, str] = MappingProxyType({})
    """The day (`2026-11-26`, UTC) on which each key, by fingerprint, was last used there."""

    @property
    def converged(self) -> bool:
        """Whether the server is as the newest revision wants it."""
        return not (self.failures or self.refused or self.suspended)


class Answer(NamedTuple):
    """The end of a request that did what was asked; `text` is for a person."""

    text: str
    facts: Mapping[str, Any] = MappingProxyType({})
    """The same for a program: what `--json` prints."""


class Question(NamedTuple):
    """The end of a request that needs a yes; nothing was done yet.

    Who means it asks the same again with the option `confirm` set to `token`, which stands for
    what `text` says: it is another one as soon as that would no longer be what happens.
    """

    text: str
    token: str


class Refusal(NamedTuple):
    """The end of a request that was not done: an LxcGpuError on its way to its reader."""

    code: str
    message: str
    hint: str = ""
    remedy: str = Remedy.PERSON

    def error(self) -> LxcGpuError:
        """The error to raise on this side."""
        return LxcGpuError(self.code, self.message, self.hint, Remedy(self.remedy))


Message = Progress | Report | Answer | Question | Refusal
_KINDS: Mapping[str, type[Message]] = {
    "progress": Progress,
    "report": Report,
    "answer": Answer,
    "question": Question,
    "refusal": Refusal,
}


class BadMessageError(ValueError):
    """A line that is no message of ours."""


def refusal(error: LxcGpuError) -> Refusal:
    """What to send of `error`: everything but its details, which stay in the journal."""
    return Refusal(error.code, error.message, error.hint, error.remedy)


def encode(message: Message) -> str:
    """`message` as one line."""
    name = next(name for name, kind in _KINDS.items() if isinstance(message, kind))
    return json.dumps({name: fields_of(message)}, ensure_ascii=False, default=_plain) + "\n"


def fields_of(message: Message) -> dict[str, Any]:
    """The fields by name, and theirs, as JSON has them."""
    fields = message._asdict()
    if isinstance(message, Report):
        for name in ("failures", "drift"):
            fields[name] = [each._asdict() for each in fields[name]]
        fields["key_days"] = dict(message.key_days)
    return fields


def _plain(value: object) -> dict[str, Any]:
    """What facts may hold besides what JSON knows: mappings, and our frozen data."""
    return dict(value) if isinstance(value, Mapping) else vars(value)


def decode(line: str | bytes) -> Message:
    """The message in one line. BadMessageError if it is none."""
    if len(line) > LONGEST_LINE:
        raise BadMessageError("the line is too long")
    try:
        ((name, fields),) = json.loads(line).items()
        return _build(_KINDS[name], fields)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BadMessageError(f"not a message: {error}") from error


def _build(kind: type[Message], fields: Mapping[str, Any]) -> Message:
    if kind is Progress:
        share = fields.get("fraction")
        return Progress(_text(fields["text"]), None if share is None else float(share))
    if kind is Answer:
        return Answer(_text(fields["text"], LONGEST_ANSWER), dict(fields.get("facts", {})))
    if kind is Question:
        return Question(_text(fields["text"]), _text(fields["token"]))
    if kind is Refusal:
        remedy = Remedy(fields.get("remedy", Remedy.PERSON))
        return Refusal(
            _text(fields["code"]), _text(fields["message"]), _text(fields["hint"]), remedy
        )
    return Report(
        server=_text(fields["server"]),
        revision=_text(fields["revision"]),
        finished=_moment(fields["finished"]),
        seconds=_moment(fields["seconds"]),
        changes=tuple(_text(change) for change in fields["changes"][:1000]),
        failures=tuple(
            Failure(**{f: _text(each[f]) for f in ("kind", "name", "code", "message", "hint")})
            for each in fields["failures"][:1000]
        ),
        refused=_text(fields["refused"]),
        suspended=_text(fields.get("suspended", "")),
        drift=tuple(
            Drift(_moment(each["when"]), _text(each["words"]))
            for each in fields.get("drift", ())[-MOST_DRIFT:]
        ),
        key_days=_days(fields.get("key_days", {})),
    )


def _days(value: Mapping[str, Any]) -> dict[str, str]:
    """Days by fingerprint; whatever else stands there is left out."""
    pairs = list(value.items())[-MOST_KEY_DAYS:]
    valid = re.compile(f"{_FINGERPRINT} {_DAY}")
    return {key: day for key, day in pairs if valid.fullmatch(f"{key} {day}")}


def _moment(value: Any) -> float:
    """A moment, or how long something took: a number that a calendar takes."""
    if not 0 <= value <= LATEST:
        raise ValueError("no moment")
    return float(value)


def _text(value: object, longest: int = 2000) -> str:
    """A string for a person's screen: no control characters, at most so many letters."""
    if not isinstance(value, str):
        raise TypeError(f"not a string: {type(value).__name__}")
    return "".join(c if c.isprintable() or c == "\n" else "�" for c in value[:longest])
