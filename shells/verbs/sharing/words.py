"""Puts reservations into words, and into facts for programs. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from reconciler.host.in_words import columns
from reconciler.requests.reserving import Done, ServerGpus
from reconciler.reservations.book import Reservation
from reconciler.reservations.times import in_words, length_in_words, until_in_words
from state.words import plural


def reserved(done: Done, user: str) -> str:
    """The answer of `reserve`."""
    first, server = done.reservations[0], done.view.server
    when = [until_in_words(each.begins, each.ends) for each in done.reservations]
    ids = first.id if not first.series else f"{first.series}, {len(when)} weeks"
    lines = [f"Reserved ({ids}): {gpus_in_words(first.gpus, done.gpus)} of {server}"]
    lines += [f"  {_from_now(each, done.now)}{words}" for each, words in zip(
        done.reservations, when, strict=True)]  # fmt: skip
    lines += [_others(first, user, done)] if first.in_force(done.now) else []
    lines += [
        f"In your container: export CUDA_VISIBLE_DEVICES={','.join(first.gpus)}",
        "Everybody can see this. No programs are ended for it.",
        f"Give back what you don't need: ssh {server}-manage release {first.series or first.id}",
    ]
    return "\n".join(line for line in lines if line)


def _from_now(each: Reservation, now: float) -> str:
    return "now, " if each.in_force(now) else ""


def _others(first: Reservation, user: str, done: Done) -> str:
    """The users with a program on one of the GPUs now, so that people can talk about it."""
    users = done.gpus.users or {}
    said = sorted({who for gpu in first.gpus for who in users.get(gpu, ()) if who} - {user})
    return f"Programs of {', '.join(said)} are on them now. Please talk to them." if said else ""


def gpus_in_words(gpus: Sequence[str], there: ServerGpus) -> str:
    """`GPU 3`, `GPUs 0 and 1`; a GPU that isn't there by its UUID."""
    names = [index_of(gpu, there) for gpu in gpus]
    if len(names) == 1:
        return f"GPU {names[0]}"
    return f"GPUs {', '.join(names[:-1])} and {names[-1]}"


def index_of(gpu: str, there: ServerGpus) -> str:
    """The GPU's index, as `gpus` shows it."""
    return str(there.uuids.index(gpu)) if gpu in there.uuids else gpu[:12]


def extended(done: Done, server: str) -> str:
    """The answer of `reserve --extend`."""
    each = done.reservations[0]
    return f"{each.id} now ends {in_words(each.ends)} on {server}."


def handed_over(done: Done, to: str) -> str:
    """The answer of `reserve --to ann`."""
    lines = [
        f"{each.id} is now {to}'s: {gpus_in_words(each.gpus, done.gpus)} of {done.view.server}, "
        f"{until_in_words(each.begins, each.ends)}"
        for each in done.reservations
    ]
    return "\n".join(lines)


def released(done: Done) -> str:
    """The answer of `release`."""
    ids = ", ".join(each.id for each in done.reservations)
    return f"Released: {ids}. Others can have the GPUs."


def table(done: Done, user: str) -> str:
    """The answer of `reservations`; the asker's own are marked."""
    rows = [("", "ID", "WHO", "GPUS", "FROM", "UNTIL", "")]
    shown = sorted(
        [_row(each, user, done) for each in done.reservations]
        + [_closed_row(each, done.now) for each in done.rules.closed if each[1] > done.now]
    )
    rows += [row for _, row in shown]
    server = done.view.server
    head = [f"Reservations of {server}, by its clock ({in_words(done.now)}):", *columns(rows)]
    if not shown:
        head = [f"Nobody has reserved a GPU of {server}."]
    more = f"Reserve:  ssh {server}-manage reserve 1 8h"
    return "\n".join([*head, *_allowed(done), more])


_Row = tuple[float, tuple[str, str, str, str, str, str, str]]


def _row(each: Reservation, user: str, done: Done) -> _Row:
    gpus = ",".join(index_of(gpu, done.gpus) for gpu in each.gpus)
    begins = "now" if each.in_force(done.now) else in_words(each.begins)
    mark = "*" if each.user == user else ""
    notes = [f"weekly, {each.series}"] if each.series else []
    notes += [f"made by {each.maker}"] if each.maker else []
    row = (mark, each.id, each.user, gpus, begins, in_words(each.ends), ", ".join(notes))
    return each.begins, row


def _closed_row(closed: tuple[float, float, str], now: float) -> _Row:
    begins, ends, why = closed
    since = in_words(begins) if begins > now else "now"
    return begins, ("", "-", "-", "all", since, in_words(ends), f"closed: {why}")


def _allowed(done: Done) -> list[str]:
    """What one person may reserve here, in words."""
    rules = done.rules
    if not rules.most:
        return ["GPUs can't be reserved on this server."]
    gpus = plural(rules.most_gpus, "GPU") if done.gpus.uuids else ""
    said = [
        *([f"{gpus} at a time"] if gpus else []),
        f"{length_in_words(rules.longest)} each",
        f"beginning within {length_in_words(rules.ahead)}",
        plural(rules.most, "reservation"),
    ]
    return [f"One person may have: {', '.join(said)}."]


def facts(done: Done) -> dict[str, object]:
    """Facts for programs; times are seconds since the epoch."""
    return {
        "server": done.view.server,
        "now": done.now,
        "reservations": [
            {
                "id": each.id,
                "user": each.user,
                "made_by": each.made_by,
                "gpus": list(each.gpus),
                "indices": [
                    done.gpus.uuids.index(g) if g in done.gpus.uuids else None for g in each.gpus
                ],
                "begins": each.begins,
                "ends": each.ends,
                "series": each.series or None,
            }
            for each in done.reservations
        ],
        "closed": [
            {"begins": begins, "ends": ends, "text": text}
            for begins, ends, text in done.rules.closed
        ],
    }
