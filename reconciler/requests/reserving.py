"""Reserving GPUs: the book is read, checked and written under one lock, for milliseconds.

The driver, which may hang, is asked before that. A kill leaves either the old book or the new one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from reconciler.host import locks
from reconciler.host.boot import boot_clock
from reconciler.host.published import current_view, resident_of
from reconciler.load.owners import Owners
from reconciler.nvidia import nodes, nvml
from reconciler.nvidia.driver import driver
from reconciler.reservations import book_file, parsing, rules, times
from reconciler.reservations.book import Book, Reservation
from reconciler.reservations.closed import closed
from reconciler.reservations.rules import GpuRequest, Rules
from state.errors import LxcGpuError
from state.view import View


@dataclass(frozen=True)
class ServerGpus:
    """The server's GPUs: their UUIDs in the order of their indices, and the users of each."""

    uuids: tuple[str, ...] = ()
    users: Mapping[str, frozenset[str]] | None = None
    """Logins of those with programs on a GPU, by its UUID; None if the driver doesn't say."""

    def of(self, view: View, user: str) -> tuple[str, ...]:
        """The GPUs that the user's container sees."""
        cards = [nodes.Card(uuid, place) for place, uuid in enumerate(self.uuids)]
        minors, _ = nodes.choose(view.residents[user].gpus, cards)
        return tuple(u for place, u in enumerate(self.uuids) if minors is None or place in minors)

    def best_first(self, gpus: tuple[str, ...], user: str) -> tuple[str, ...]:
        """The GPUs in the order in which they are given: those the user uses, then unused ones."""
        users = self.users or {}

        def rank(gpu: str) -> int:
            on_it = users.get(gpu, frozenset())
            return 2 if on_it - {user} else 0 if on_it else 1

        return tuple(sorted(gpus, key=rank))


@dataclass(frozen=True)
class Done:
    """What was reserved, released or changed."""

    view: View
    gpus: ServerGpus
    reservations: tuple[Reservation, ...]
    now: float
    rules: Rules


def gpus_there() -> ServerGpus:
    """Which GPUs there are, without waking any if the kernel says their UUIDs."""
    uuids = tuple(card.uuid for card in nodes.cards())
    return ServerGpus(uuids) if uuids and all(uuids) else gpus_used(None)


def gpus_used(view: View | None) -> ServerGpus:
    """Which GPUs there are and, by the view, who uses them. LxcGpuError if there are none."""
    by_kernel = ServerGpus(tuple(card.uuid for card in nodes.cards() if card.uuid))
    if not driver().present:
        raise LxcGpuError(
            "gpu-none", "This server has no NVIDIA driver, so there are no GPUs to reserve."
        )
    try:
        found = nvml.read().gpus
    except LxcGpuError:
        if by_kernel.uuids:
            return by_kernel
        raise
    uuids = tuple(gpu.uuid for gpu in found)
    if len(by_kernel.uuids) > len(uuids):  # one that the driver can't read just now keeps its place
        uuids = by_kernel.uuids
    if view is None:
        return ServerGpus(uuids)
    whose = _whose(view)
    return ServerGpus(
        uuids, {gpu.uuid: frozenset(whose(p.pid) for p in gpu.processes) for gpu in found}
    )


def _whose(view: View) -> Callable[[int], str]:
    from reconciler.load.gpus import uid_of  # third-party packages: only where GPUs are chosen

    owners = Owners(view)

    def whose(pid: int) -> str:
        uid = uid_of(pid)
        return (owners.of(uid) if uid is not None else None) or ""

    return whose


@contextmanager
def _changing(user: str | None) -> Iterator[tuple[View, Book, float]]:
    """The view, the book and the time, under the lock. Former users have no reservations ahead.

    The book is aged first, so that what a wrong clock took for past is open again.
    """
    with locks.lock(locks.GLOBAL):
        view, now = current_view(), time.time()
        if user is not None:
            resident_of(view, user)
        book = book_file.read().aged(now, boot_clock())
        yield view, book.only_of(view.residents, now), now


def reserve(user: str, options: Mapping[str, str]) -> Done:
    """Reserve what was asked for. LxcGpuError if it isn't free; the message says when it is."""
    view = current_view()
    resident_of(view, user)
    gpus = gpus_used(view)
    with _changing(user) as (view, book, now):
        order = parsing.parse_reserve(options, now, gpus.uuids)
        own, judged = gpus.of(view, user), rules.rules_of(view, len(gpus.uuids), closed(view))
        for gpu in order.gpus:
            if gpu not in own:
                raise LxcGpuError(
                    "gpu-unknown",
                    f"GPU {gpus.uuids.index(gpu)} is not for your container.",
                    "`gpus` shows which are.",
                )
        best = order.gpus or gpus.best_first(own, user)
        wish = GpuRequest(user, order.count, best, order.seconds, order.typed)
        begins = _beginnings(judged, book, wish, order, now)
        rules.allow(judged, book, wish, begins, now)
        chosen = rules.fit(judged, book, wish, begins)
        if not chosen:
            raise rules.not_free(judged, book, wish, begins, now)
        in_order = [gpu for gpu in gpus.uuids if gpu in chosen]
        book, made = book.reserve(user, in_order, wish.times(begins), now)
        book_file.write(book)
    return Done(view, gpus, made, now, judged)


def _beginnings(
    judged: Rules, book: Book, wish: GpuRequest, order: parsing.ParsedReserve, now: float
) -> tuple[float, ...]:
    if order.first_free:
        found = rules.first_free(judged, book, wish, order.begins, now)
        return (order.begins if found is None else found,)
    if order.weekly_until is None:
        return (order.begins,)
    weeks = times.weeks(order.begins, order.weekly_until, rules.MOST_WEEKS)
    if not weeks:
        raise LxcGpuError("usage", "The series ends before it begins.", "Take a later `--until`.")
    if len(weeks) > rules.MOST_WEEKS:
        raise LxcGpuError(
            "usage", f"A series has {rules.MOST_WEEKS} weeks at most.", "Take an earlier `--until`."
        )
    return weeks


def extend(user: str, words: str) -> Done:
    """Extend one of the user's reservations. LxcGpuError if it can't be extended."""
    gpus = gpus_there()
    with _changing(user) as (view, book, now):
        longer, named = parsing.parse_extension(words)
        (first, *others) = parsing.chosen(named, book.of(user, now), "reserve --extend 2h")
        if others:
            raise LxcGpuError(
                "reservation-which",
                f"That is a series; one of it can be extended: {first.id}, "
                f"{', '.join(each.id for each in others)}.",
                f"Type: `reserve --extend {first.id} {times.length_in_words(longer)}`",
            )
        judged = rules.rules_of(view, len(gpus.uuids), closed(view))
        ends = first.ends + longer
        rules.allow_longer(judged, book, first, ends, times.length_in_words(longer))
        book, changed = book.extend(first, ends)
        book_file.write(book)
    return Done(view, gpus, (changed,), now, judged)


def hand_over(user: str, to: str, named: str) -> Done:
    """Give the rest of a reservation to another user. LxcGpuError if they can't have it."""
    gpus = gpus_there()
    with _changing(user) as (view, book, now):
        if to == user or to not in view.residents:
            why = "is you" if to == user else f"has no container on {view.server}"
            raise LxcGpuError(
                "reservation-person",
                f"{to} {why}, so nothing was handed over.",
                "`--to` takes the login of somebody who is registered on this server.",
            )
        given = parsing.chosen(named, book.of(user, now), f"reserve --to {to}")
        judged = rules.rules_of(view, len(gpus.uuids), closed(view))
        theirs, changed = gpus.of(view, to), list[Reservation]()
        for each in given:
            rules.allow_hand_over(judged, book, each, to, theirs, now, gpus.uuids)
            book, new = book.hand_over(each, to, now)
            changed.append(new)
        book_file.write(book)
    return Done(view, gpus, tuple(changed), now, judged)


def release(user: str | None, named: str) -> Done:
    """Give up the rest of a user's reservation; a sysadmin (None) may name anybody's.

    LxcGpuError if there is none, or if there are several and none is named.
    """
    with _changing(user) as (view, book, now):
        own = book.ahead(now) if user is None else book.of(user, now)
        gone = parsing.chosen(named, own, "release", "You have" if user else "There is")
        book_file.write(book.release(gone, now))
    return Done(view, ServerGpus(), gone, now, rules.rules_of(view, 0))


def looked(user: str) -> Done:
    """Everybody's reservations that aren't over, without former users'."""
    view, now = current_view(), time.time()
    resident_of(view, user)
    try:
        gpus = gpus_there()
    except LxcGpuError:
        gpus = ServerGpus()  # the book says whose they are, whatever the driver says
    found = tuple(
        each for each in book_file.read_open(now).ahead(now) if each.user in view.residents
    )
    return Done(view, gpus, found, now, rules.rules_of(view, len(gpus.uuids), closed(view)))


def forget(user: str) -> None:
    """Remove a purged user from the book; a damaged book stays.

    The caller holds the global lock.
    """
    with suppress(LxcGpuError):
        book = book_file.read()
        left = book.without(user)
        if left != book:
            book_file.write(left)
