"""Decides what users may reserve on a server, and finds when it fits. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from reconciler.reservations import times
from reconciler.reservations.book import Book, Reservation, Times
from reconciler.reservations.times import in_words, length_in_words
from state.errors import LxcGpuError
from state.view import View
from state.words import plural

Closed = tuple[tuple[float, float, str], ...]
"""Times in which nobody can reserve: beginning, end, reason."""
MOST_WEEKS = 60
"""Reservations of a weekly series, at most."""


@dataclass(frozen=True)
class Rules:
    """A server's rules for one user."""

    most_gpus: int
    """GPUs at the same time."""
    longest: float
    """Seconds."""
    ahead: float
    """Seconds from now until the latest beginning."""
    most: int
    """Reservations that the user made and that aren't over, whoever has them now. So
    handing one over doesn't free a place, and receiving one doesn't use a place up."""
    closed: Closed = ()


def rules_of(view: View, gpus: int, closed: Closed = ()) -> Rules:
    """The rules by `reservations` in the file of a server with so many GPUs."""
    said = view.reservations
    most_gpus = max(1, gpus // 2) if said.most_gpus is None else said.most_gpus
    return Rules(most_gpus, said.longest * 3600.0, said.ahead * 3600.0, said.most, closed)


@dataclass(frozen=True)
class GpuRequest:
    """What a user wants to reserve: `count` of `gpus`, the best first, for `seconds`."""

    user: str
    count: int
    gpus: tuple[str, ...]
    seconds: float
    typed: str
    """GPUs and length as they can be typed again: `2 8h`."""

    def times(self, begins: Sequence[float]) -> Times:
        """Beginning and end, for each of the beginnings."""
        return tuple((each, each + self.seconds) for each in begins)


def allow(
    rules: Rules, book: Book, request: GpuRequest, begins: Sequence[float], now: float
) -> None:
    """LxcGpuError if the rules forbid the request, whatever is free."""
    if rules.most == 0:
        raise _against("GPUs can't be reserved on this server.", "Your sysadmin can allow it.")
    if request.count > len(request.gpus):
        there = plural(len(request.gpus), "GPU")
        raise _against(
            f"You want {plural(request.count, 'GPU')}; your container has {there} of this server.",
            "`gpus` shows them.",
        )
    if request.count > rules.most_gpus:
        raise _against(
            f"One person may reserve {plural(rules.most_gpus, 'GPU')} of this "
            f"server at a time, not {request.count}.",
            f"Type: `reserve {rules.most_gpus} {length_in_words(request.seconds)}`",
        )
    _not_too_long(rules, request.seconds)
    if begins[-1] > now + rules.ahead:
        series = ", and a series ends before that" if len(begins) > 1 else ""
        raise _against(
            f"A reservation must begin within {length_in_words(rules.ahead)} from now, by "
            f"{in_words(now + rules.ahead)}{series}.",
            "Choose an earlier time; your sysadmin can widen `ahead` of this server.",
        )
    if any(request.seconds > later - each for each, later in pairwise(begins)):
        raise _against(
            "Reservations of a weekly series can't be longer than a week.", "Choose a shorter time."
        )
    made = book.made_by(request.user, now)
    if len({_name(each) for each in made}) >= rules.most:
        raise _enough(rules, request.user, made)


def _not_too_long(rules: Rules, seconds: float) -> None:
    if seconds > rules.longest:
        longest = length_in_words(rules.longest)
        raise _against(
            f"A reservation here lasts {longest} at most, not {length_in_words(seconds)}.",
            f"Take {longest} or less; later, `reserve` again.",
        )


def _name(each: Reservation) -> str:
    return each.series or each.id


def _enough(rules: Rules, user: str, made: Sequence[Reservation]) -> LxcGpuError:
    own = ", ".join(dict.fromkeys(_name(each) for each in made if each.user == user))
    given = ", ".join(
        dict.fromkeys(f"{_name(each)} ({each.user} has it)" for each in made if each.user != user)
    )
    also = f" What you handed over counts until it is over: {given}." if given else ""
    return _against(
        f"You have as many reservations as one person may have here: {rules.most}.{also}",
        f"`release` one of {own}, or wait until it is over." if own else "Wait until one is over.",
    )


def fit(rules: Rules, book: Book, request: GpuRequest, begins: Sequence[float]) -> tuple[str, ...]:
    """The GPUs that the request gets at all those times; empty if too few are free."""
    when = request.times(begins)
    if any(_closed(rules, *each) for each in when):
        return ()
    if any(
        book.reserved_by(request.user, *each) + request.count > rules.most_gpus for each in when
    ):
        return ()
    free = book.unreserved(request.gpus, when)
    return free[: request.count] if len(free) >= request.count else ()


def first_free(
    rules: Rules, book: Book, request: GpuRequest, after: float, now: float
) -> float | None:
    """The first time that the request fits, not before `after`; None if the rules leave none."""
    ends = [each.ends for each in book.open] + [ends for _, ends, _ in rules.closed]
    latest = now + rules.ahead
    for begins in sorted({after, *(end for end in ends if after < end <= latest)}):
        if fit(rules, book, request, (begins,)):
            return begins
    return None


def not_free(
    rules: Rules, book: Book, request: GpuRequest, begins: Sequence[float], now: float
) -> LxcGpuError:
    """Why the request doesn't fit, when it would, and what to type for that."""
    bad = next((each for each in begins if not fit(rules, book, request, (each,))), begins[0])
    when = f"from {times.until_in_words(bad, bad + request.seconds)}"
    closed = _closed(rules, bad, bad + request.seconds)
    own = book.reserved_by(request.user, bad, bad + request.seconds)
    free = book.unreserved(request.gpus, ((bad, bad + request.seconds),))
    if closed:
        since, until, text = closed
        first = f"from {in_words(since)} " if since > now else ""
        why = f"this server is closed {first}until {in_words(until)}: {text}"
    elif own + request.count > rules.most_gpus:
        why = (
            f"you have reserved {own} in that time already, and one person may have "
            f"{rules.most_gpus} at a time."
        )
    elif len(free) < request.count:
        why = f"{_free_in_words(len(free), request)}{_who(book, request, bad)}."
    else:
        why = "they aren't free in every week of the series."
    return LxcGpuError(
        "reservation-taken",
        f"{_gpus_in_words(request)} can't be reserved {when}: {why}",
        _advice(
            first_free(rules, book, request, begins[0], now), request, now, series=len(begins) > 1
        ),
    )


def _advice(fits: float | None, request: GpuRequest, now: float, *, series: bool) -> str:
    if series:
        return (
            "Choose another time for the series, or fewer GPUs; `reservations` lists who has which."
        )
    if fits is None:
        return (
            "It fits at no time that you may reserve here: take fewer GPUs, or a shorter time. "
            "`reservations` lists who has which."
        )
    return (
        f"It fits from {in_words(fits)} on. Type: "
        f"`reserve {request.typed} --from '{times.typed(fits, now)}'`, or with `--first-free`."
    )


def _gpus_in_words(request: GpuRequest) -> str:
    return plural(request.count, "GPU")


def _free_in_words(free: int, request: GpuRequest) -> str:
    if len(request.gpus) == 1:
        return "it isn't free all that time"
    verb = "are" if free > 1 else "is"
    return f"{free or 'none'} of the {len(request.gpus)} GPUs {verb} free all that time"


def _who(book: Book, request: GpuRequest, begins: float) -> str:
    """Words for who has the GPUs until when, at most four of them."""
    one = len(request.gpus) == 1
    met = [
        each for each in book.open
        if each.meets(begins, begins + request.seconds) and set(each.gpus) & set(request.gpus)
    ]  # fmt: skip
    said = [
        f"{each.user} has {'it' if one else len(set(each.gpus) & set(request.gpus))} from "
        f"{times.until_in_words(each.begins, each.ends)}"
        for each in met[:4]
    ]
    return "".join(f"; {each}" for each in said) + ("; and others" if len(met) > 4 else "")


def _closed(rules: Rules, begins: float, ends: float) -> tuple[float, float, str] | None:
    return next((each for each in rules.closed if each[0] < ends and begins < each[1]), None)


def allow_longer(
    rules: Rules, book: Book, reservation: Reservation, ends: float, asked: str
) -> None:
    """LxcGpuError, which says what can be done, if a reservation can't be extended until `ends`."""
    _not_too_long(rules, ends - reservation.began)
    begins, gpus = reservation.ends, reservation.gpus
    held = book.reserved_by(reservation.user, begins, ends, without=reservation.id)
    if held + len(gpus) > rules.most_gpus:
        raise _against(
            f"Until then you would have more than {plural(rules.most_gpus, 'GPU')} at a time: "
            "another reservation of yours begins before that.",
            "`reservations` lists yours.",
        )
    what = "its GPU" if len(gpus) == 1 else "GPUs of it"
    later = [
        (each.begins, f"{each.user} has reserved {what} from {in_words(each.begins)} on")
        for each in book.open
        if each.meets(begins, ends) and set(each.gpus) & set(gpus)
    ]
    later += [
        (each[0], f"this server is closed from {in_words(each[0])} on: {each[2].rstrip('.')}")
        for each in rules.closed
        if each[0] < ends and begins < each[1]
    ]
    if later:
        until, why = min(later)
        left = until - begins
        here = f"Type: `reserve --extend {reservation.id} {length_in_words(left)}`"
        raise LxcGpuError(
            "reservation-taken",
            f"{reservation.id} can't be extended by {asked}: {why}.",
            here if left > 0 else "`reserve` other GPUs for the time after it: `--first-free`.",
        )


def allow_hand_over(
    rules: Rules,
    book: Book,
    reservation: Reservation,
    user: str,
    gpus: Sequence[str],
    now: float,
    there: Sequence[str],
) -> None:
    """LxcGpuError if the user, whose container has `gpus`, can't take the reservation over.

    `there`: the UUIDs of the server's GPUs, by index.
    """
    if missing := [gpu for gpu in reservation.gpus if gpu not in gpus]:
        names = ", ".join(str(there.index(gpu)) if gpu in there else gpu for gpu in missing)
        raise _against(
            f"{reservation.id} has {'GPUs' if missing[1:] else 'GPU'} {names}, which the container "
            f"of {user} doesn't have.",
            "Hand it over to somebody whose container has all its GPUs.",
        )
    held = book.reserved_by(user, max(now, reservation.begins), reservation.ends)
    if held + len(reservation.gpus) > rules.most_gpus:
        raise _against(
            f"{user} would have more than {plural(rules.most_gpus, 'GPU')} at a time.",
            f"`reservations` shows those of {user}.",
        )


def _against(message: str, hint: str) -> LxcGpuError:
    return LxcGpuError("reservation-rules", message, hint)
