"""Parses the words of `reserve` as they come over ssh: split at blanks, in any order. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reconciler.reservations import times
from reconciler.reservations.book import Reservation, minute
from reconciler.reservations.times import EXAMPLES, LENGTHS
from state.errors import LxcGpuError

_FILLERS = frozenset({"gpu", "gpus", "for", "at", "from", "and", "the", "on", "of", ","})
_UNIT = re.compile(r"m|mins?|minutes?|h|hrs?|hours?|d|days?|w|weeks?", re.ASCII | re.IGNORECASE)
_NUMBER = re.compile(r"[0-9]{1,6}(?:[.,][0-9]{1,3})?", re.ASCII)
_COUNT = re.compile(r"[0-9]{1,6}", re.ASCII)
_INDEX = re.compile(r"(?:gpu|#)[:#]?([0-9]{1,3})", re.ASCII | re.IGNORECASE)
_INDICES = re.compile(r"[0-9]{1,3}(?:,[0-9]{1,3})+,?|[0-9]{1,3},", re.ASCII)
_UUID = re.compile(r"GPU-[0-9a-f]{4,8}(?:-[0-9a-f]{0,12}){0,4}", re.ASCII | re.IGNORECASE)
_WEEKLY = re.compile(r"(?:week|weekly|1 ?w(?:eek)?|7 ?d(?:ays)?)(?= |$)", re.ASCII | re.IGNORECASE)
_ID = re.compile(r"[rs]?([0-9]{1,9})", re.ASCII | re.IGNORECASE)
EXAMPLE = "`reserve 2 8h`, `reserve 2 8h --from 'tomorrow 9:00'`, `reserve gpu3 1d`"


@dataclass(frozen=True)
class ParsedReserve:
    """What is to be reserved, and when."""

    count: int
    gpus: tuple[str, ...]
    """UUIDs of GPUs that were named; empty: any GPUs."""
    seconds: float
    begins: float
    first_free: bool
    weekly_until: float | None
    typed: str
    """GPUs and length, as they can be typed again."""


def parse_reserve(options: Mapping[str, str], now: float, there: Sequence[str]) -> ParsedReserve:
    """What `reserve` was asked for. `there`: the UUIDs of the server's GPUs, by index.

    LxcGpuError, with an example, if it can't be understood.
    """
    said, rest = _sorted_out(options, now)
    read = _read([*options.get("what", "").split(), *rest], now, there)
    if read.begins is not None and "from" in options:
        raise _usage("You gave two times for the beginning.", f"Like this: {EXAMPLE}.")
    first = times.moment(said["from"], now) if "from" in said else read.begins
    begins = minute(now) if first is None else _in_time(minute(first), now)
    until = times.moment(said["until"], begins, end_of_day=True) if "until" in said else None
    weekly = "every" in options
    if weekly and "first-free" in options:
        raise _usage("`--first-free` finds one time, not a series.", _SERIES)
    if weekly and until is None:
        raise _usage("A series needs its last day: `--until 2026-12-31`.", _SERIES)
    count = len(read.gpus) or read.count
    if not count:
        raise _usage("How many GPUs, or which?", f"Like this: {EXAMPLE}.")
    seconds = _length(read.seconds, None if weekly else until, begins)
    return ParsedReserve(
        count=count,
        gpus=read.gpus,
        seconds=seconds,
        begins=begins,
        first_free="first-free" in options,
        weekly_until=until if weekly else None,
        typed=f"{' '.join(read.gpus) or count} {times.length_in_words(seconds)}",
    )


def _sorted_out(options: Mapping[str, str], now: float) -> tuple[dict[str, str], list[str]]:
    """The moments that follow options, and the words after them that belong to no moment."""
    said, rest = dict[str, str](), list[str]()
    for name in ("from", "until"):
        if name in options:
            words = options[name].split()
            count = times.moment_at_first(words, now)
            if not count:
                raise _usage(f"`{options[name][:40]}` is not a time.", f"Times: {EXAMPLES}.")
            said[name], rest = " ".join(words[:count]), [*rest, *words[count:]]
    if "every" in options:
        weekly = _WEEKLY.match(options["every"])
        if weekly is None:
            raise _usage("A series is weekly: `--every week`.", _SERIES)
        rest += options["every"][weekly.end() :].split()
    return said, rest


def _length(seconds: float | None, until: float | None, begins: float) -> float:
    """The length in whole minutes: `seconds`, or the time until `until`."""
    if (seconds is None) == (until is None):
        what = (
            "For how long?" if seconds is None else "Give either a length or `--until`, not both."
        )
        raise _usage(what, f"Lengths: {LENGTHS}. Like this: {EXAMPLE}.")
    if until is not None:
        if until <= begins:
            raise _usage("It ends before it begins.", f"Times: {EXAMPLES}.")
        seconds = minute(until) - begins
    if seconds is None or not times.MINUTE <= seconds <= times.LONGEST:
        raise _usage("A reservation lasts from a minute to a year.", f"Lengths: {LENGTHS}.")
    return float(-(-seconds // times.MINUTE) * times.MINUTE)


_SERIES = "Like this: `reserve 4 2h --from 'mon 14:00' --every week --until 2026-12-31`."


def _in_time(begins: float, now: float) -> float:
    """`begins`, if it is within a year from now. LxcGpuError if it is not."""
    if begins < minute(now):
        raise _usage(
            f"{times.in_words(begins)} is in the past: it is {times.in_words(now)} on this server.",
            f"Times: {EXAMPLES}.",
        )
    if begins > now + times.LONGEST:
        raise _usage("A reservation has to begin within a year.", f"Times: {EXAMPLES}.")
    return begins


@dataclass
class _Read:
    """What has been understood so far."""

    count: int | None = None
    gpus: tuple[str, ...] = ()
    seconds: float | None = None
    begins: float | None = None

    def take(self, gpu: str) -> None:
        if gpu in self.gpus:
            raise _usage("You named a GPU twice.", f"Like this: {EXAMPLE}.")
        self.gpus = (*self.gpus, gpu)


def _read(words: list[str], now: float, there: Sequence[str]) -> _Read:
    """Understand the words that follow no option."""
    read, left = _Read(), list(words)
    while left:
        word, behind = left.pop(0), left[0] if left else ""
        if _NUMBER.fullmatch(word) and _UNIT.fullmatch(behind):
            word += left.pop(0)
        if (seconds := times.seconds_of(word)) is not None:
            read.seconds = (read.seconds or 0) + seconds
        elif _UUID.fullmatch(word):
            read.take(_by_uuid(word, there))
        elif match := _INDEX.fullmatch(word):
            read.take(_by_index(match[1], there))
        elif _INDICES.fullmatch(word) or (word == "0" and read.count is None):
            for index in word.rstrip(",").split(","):
                read.take(_by_index(index, there))
        elif word.lower() == "gpu" and _COUNT.fullmatch(behind) and not _unit_at(left, 1):
            read.take(_by_index(left.pop(0), there))
        elif _COUNT.fullmatch(word):
            if read.count is not None:
                raise _usage(
                    f"`{read.count} {word}` can mean two things.",
                    f"A number is how many GPUs; `gpu{word}` is one of them; a length is `8h`.",
                )
            read.count = int(word)
        elif count := times.moment_at_first([word, *left], now):
            if read.begins is not None:
                raise _usage("There are two times at which it begins.", f"Like this: {EXAMPLE}.")
            read.begins = times.moment(" ".join([word, *left][:count]), now)
            del left[: count - 1]
        elif word.lower() not in _FILLERS:
            raise _usage(f"`{word[:40]}` was not understood.", f"Like this: {EXAMPLE}.")
    if read.gpus and read.count is not None and read.count != len(read.gpus):
        raise _usage(
            "You gave a number of GPUs, and named another number of them.", f"Like this: {EXAMPLE}."
        )
    return read


def _unit_at(words: Sequence[str], place: int) -> bool:
    return len(words) > place and bool(_UNIT.fullmatch(words[place]))


def _by_uuid(typed: str, there: Sequence[str]) -> str:
    found = [uuid for uuid in there if uuid.lower().startswith(typed.lower())]
    if len(found) != 1:
        what = "no GPU" if not found else "more than one GPU"
        raise _usage(f"`{typed}` is {what} of this server.", "`gpus --json` has their UUIDs.")
    return found[0]


def _by_index(typed: str, there: Sequence[str]) -> str:
    if int(typed) >= len(there):
        last = len(there) - 1
        raise _usage(f"There is no GPU {typed} here.", f"They are numbered from 0 to {last}.")
    return there[int(typed)]


def chosen(
    words: str, own: Sequence[Reservation], what: str, have: str = "You have"
) -> tuple[Reservation, ...]:
    """The reservations that are meant: by their IDs, or their series'; without a name, the only
    one."""
    names = words.lower().split()
    if not names:
        if len({each.series or each.id for each in own}) == 1:
            return tuple(own)
        if not own:
            raise _unknown(f"{have} no reservation on this server.")
        raise LxcGpuError(
            "reservation-which",
            f"Which one? You have {', '.join(f'{each.id} ({_when(each)})' for each in own[:10])}.",
            f"Type: `{what} {own[0].id}`",
        )
    found = dict[str, Reservation]()
    for name in names:
        match = _ID.fullmatch(name)
        ids = {name} if match is None else {name, f"r{match[1]}"} - {match[1]}
        if name.startswith("s"):
            ids = {name}
        met = [each for each in own if ids & {each.id, each.series}]
        if not met:
            raise _unknown(f"{have} no reservation `{name[:40]}` on this server.")
        found |= {each.id: each for each in met}
    return tuple(found.values())


def _when(each: Reservation) -> str:
    return times.until_in_words(each.begins, each.ends)


def _unknown(message: str) -> LxcGpuError:
    return LxcGpuError("reservation-unknown", message, "`reservations` lists them.")


def parse_extension(words: str) -> tuple[float, str]:
    """By how long to extend, and which reservation, from `r17 2h`, `2h r17` or `2 hours`."""
    seconds, ids, left = 0.0, list[str](), words.split()
    while left:
        word, behind = left.pop(0), left[0] if left else ""
        if _NUMBER.fullmatch(word) and _UNIT.fullmatch(behind):
            word += left.pop(0)
        if (found := times.seconds_of(word)) is not None:
            seconds += found
        elif _ID.fullmatch(word):
            ids.append(word)
        elif word.lower() not in ("by", *_FILLERS):
            raise _usage(f"`{word[:40]}` was not understood.", "Like this: `reserve --extend 2h`.")
    if not times.MINUTE <= seconds <= times.LONGEST or len(ids) > 1:
        raise _usage(
            "Give one reservation, and a length of time to extend it by.",
            "Like this: `reserve --extend r17 2h`.",
        )
    return float(-(-seconds // times.MINUTE) * times.MINUTE), " ".join(ids)


def _usage(message: str, hint: str) -> LxcGpuError:
    return LxcGpuError("usage", message, hint)
