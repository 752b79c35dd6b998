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
from functools import partial
from types import MappingProxyType
from typing import Annotated, Any, NamedTuple, TypeVar

from state.errors import LxcGpuError, Remedy
from state.plain import from_plain, parsed, to_plain
from state.words import printable

T = TypeVar("T")

LONGEST_LINE = 1_000_000
"""Bytes; a longer line isn't a message of ours."""
LONGEST_NEWS = 256 * 1024
"""Bytes that a nudge brings at most (`state.git.news`)."""
LONGEST_ANSWER = 500_000
"""Letters: a table of hundreds of reservations, a calendar of them."""
LONGEST_TEXT = 2000
MOST_LINES = 1000
"""Changes and failures of one round."""
LATEST = 253_402_300_799.0
"""The end of the year 9999, in seconds since the epoch: no calendar goes further."""
MOST_KEY_DAYS = 3000
"""Keys whose last day a server remembers and reports."""
MOST_DRIFT = 20
"""Drifts that a server remembers and reports."""
_FINGERPRINT = r"SHA256:[A-Za-z0-9+/]{43}"
_DAY = r"20[0-9][0-9]-[01][0-9]-[0-3][0-9]"


def _days(value: Mapping[str, Any]) -> dict[str, str]:
    """Days by fingerprint; whatever else stands there is left out."""
    pairs = list(value.items())[-MOST_KEY_DAYS:]
    valid = re.compile(f"{_FINGERPRINT} {_DAY}")
    return {key: day for key, day in pairs if valid.fullmatch(f"{key} {day}")}


def _first(values: tuple[T, ...]) -> tuple[T, ...]:
    return values[:MOST_LINES]


def _latest_drift(values: tuple[Drift, ...]) -> tuple[Drift, ...]:
    return values[-MOST_DRIFT:]


def in_calendar(value: float) -> float:
    """A rule for moments, and for how long something took."""
    if not 0 <= value <= LATEST:
        raise ValueError("no moment")
    return value


def _shown(value: str, longest: int = LONGEST_TEXT) -> str:
    return "\n".join(map(printable, value[:longest].split("\n")))


Text = Annotated[str, _shown]
"""For a person's screen: no control characters, at most LONGEST_TEXT letters."""
Moment = Annotated[float, in_calendar]


class Progress(NamedTuple):
    """One step of something that takes a while; `fraction` (0 to 1) where it is known."""

    text: Text
    fraction: float | None = None


NOBODY = "-"
"""The name in a failure that is nobody's alone."""


class Failure(NamedTuple):
    """One thing that a round could not put right."""

    kind: Text
    name: Text
    """A user's name, or what the kind calls its things; NOBODY if the whole kind failed."""
    code: Text
    message: Text
    hint: Text = ""

    @property
    def about(self) -> str:
        """The kind, and whose it is: `container ann`; of a whole kind, `container`."""
        return self.kind if self.name == NOBODY else f"{self.kind} {self.name}"

    def error(self) -> LxcGpuError:
        """The error that it was."""
        return LxcGpuError(self.code, self.message, self.hint)


class Drift(NamedTuple):
    """Something that was changed on a server by hand, and put back by a round."""

    when: Moment
    """Seconds since the epoch, by the server's clock, when it was noticed."""
    words: Text
    """What the round did about it."""


class Report(NamedTuple):
    """What one round on one server came to."""

    server: Text
    revision: Text
    """The revision that the server is on."""
    finished: Moment
    """Seconds since the epoch, by the server's clock."""
    seconds: Moment
    """How long the round took."""
    changes: Annotated[tuple[Text, ...], _first] = ()
    """What was changed, in words."""
    failures: Annotated[tuple[Failure, ...], _first] = ()
    refused: Text = ""
    """Why a newer revision was not taken; empty if none was refused."""
    suspended: Text = ""
    """Why a sysadmin has the server hold still; empty if it doesn't. Then nothing was done."""
    drift: Annotated[tuple[Drift, ...], _latest_drift] = ()
    """What drifted lately, the newest last."""
    key_days: Annotated[Mapping[str, Any], _days] = MappingProxyType({})
    """The day (`2026-11-26`, UTC) on which each key, by fingerprint, was last used there."""
    fetched: bool = True
    """Whether the repository was asked; if not, the nudge had brought the newest revision along."""

    @property
    def converged(self) -> bool:
        """Whether the server is as the newest revision wants it."""
        return not (self.failures or self.refused or self.suspended)


class Answer(NamedTuple):
    """The end of a request that did what was asked; `text` is for a person."""

    text: Annotated[str, partial(_shown, longest=LONGEST_ANSWER)]
    facts: Mapping[str, Any] = MappingProxyType({})
    """The answer for programs: what `--json` prints."""


class Question(NamedTuple):
    """The end of a request that needs a yes; nothing was done yet.

    Who means it asks the same again with the option `confirm` set to `token`, which stands for
    what `text` says: it is another one as soon as that would no longer be what happens.
    """

    text: Text
    token: Text


class Refusal(NamedTuple):
    """The end of a request that was not done: an LxcGpuError on its way to its reader."""

    code: Text
    message: Text
    hint: Text = ""
    remedy: Remedy = Remedy.PERSON

    def error(self) -> LxcGpuError:
        """The error to raise on this side."""
        return LxcGpuError(self.code, self.message, self.hint, self.remedy)


Message = Progress | Report | Answer | Question | Refusal
_KINDS: Mapping[str, type[Message]] = {
    "progress": Progress,
    "report": Report,
    "answer": Answer,
    "question": Question,
    "refusal": Refusal,
}


class BadMessageError(ValueError):
    """A line that isn't a message of ours."""


def refusal(error: LxcGpuError) -> Refusal:
    """What to send of `error`: everything but its details, which stay in the journal."""
    return Refusal(error.code, error.message, error.hint, error.remedy)


def failure(kind: str, name: str, error: LxcGpuError) -> Failure:
    """`error` as a failure of what `kind` calls `name`, without its details."""
    return Failure(kind, name, error.code, error.message, error.hint)


def encode(message: Message) -> str:
    """`message` as one line of UTF-8; bytes in it that are no text become question marks."""
    name = next(name for name, kind in _KINDS.items() if isinstance(message, kind))
    line = json.dumps({name: to_plain(message)}, ensure_ascii=False) + "\n"
    return line.encode("utf-8", "replace").decode()  # a container may give a file any name


def decode(line: str | bytes) -> Message:
    """The message in one line. BadMessageError if it is none."""
    if len(line) > LONGEST_LINE:
        raise BadMessageError("the line is too long")
    try:
        ((name, fields),) = parsed(line).items()
        return from_plain(_KINDS[name], fields, newer=True)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadMessageError(f"not a message: {error}") from error
