"""Which reservations people are told of by mail, and when."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from reconciler.reservations.book import Reservation
from reconciler.reservations.due_notices import HOUR, SITS, due, over
from reconciler.reservations.watching import UNUSED, ReservationUse, UseRecord
from state.wire.notices import NoticeKind

NOW = 1_800_000_000.0
LONG = Reservation("r1", "ann", ("GPU-a", "GPU-b"), NOW - 2 * HOUR, NOW + 5 * HOUR, NOW - 9 * HOUR)


def kinds(*reservations: Reservation, record: UseRecord = UseRecord()) -> list[NoticeKind]:  # noqa: B008
    return [each.kind for each in due(reservations, record, NOW)]


def seen(unused: float = 0, **intruders: float) -> UseRecord:
    return UseRecord(1000, {"r1": ReservationUse("ann", unused, intruders)})


def test_nothing_in_the_middle() -> None:
    assert kinds(LONG) == []


class TestBegins:
    def test_is_said_of_what_was_reserved_ahead(self) -> None:
        (said,) = due([replace(LONG, begins=NOW - 60)], UseRecord(), NOW)
        assert (said.user, said.kind, said.about) == ("ann", NoticeKind.RESERVATION_BEGINS, "r1")
        assert (said.facts.gpus, said.facts.until) == (2, LONG.ends)

    def test_not_to_who_reserved_it_just_now(self) -> None:
        assert kinds(replace(LONG, begins=NOW - 60, made=NOW - 60)) == []

    def test_not_when_the_server_was_down_meanwhile(self) -> None:
        assert kinds(replace(LONG, begins=NOW - HOUR)) == []


class TestEnds:
    def test_is_said_an_hour_before(self) -> None:
        assert kinds(replace(LONG, ends=NOW + HOUR)) == [NoticeKind.RESERVATION_ENDS]

    def test_once_more_for_one_that_was_extended(self) -> None:
        first, later = (
            [each.about for each in due([replace(LONG, ends=ends)], UseRecord(), NOW)]
            for ends in (NOW + 60, NOW + 120)
        )
        assert first != later

    def test_not_of_a_short_one(self) -> None:
        assert kinds(replace(LONG, begins=NOW - HOUR, ends=NOW + HOUR - 1)) == []


class TestUnused:
    def test_is_said_after_an_hour(self) -> None:
        assert kinds(LONG, record=seen(UNUSED - 1)) == []
        (said,) = due([LONG], seen(UNUSED), NOW)
        assert (said.kind, said.about) == (NoticeKind.RESERVATION_UNUSED, "r1")
        assert said.facts.at == NOW - UNUSED

    def test_is_over_with_the_next_program(self) -> None:
        def gone(before: UseRecord, after: UseRecord) -> Iterator[str]:
            return (each.about for each in over(before, after))

        assert list(gone(seen(UNUSED), seen(0))) == ["r1"]
        assert list(gone(seen(UNUSED), seen(UNUSED + 60))) == []
        assert list(gone(seen(60), seen(0))) == []
        assert list(gone(seen(UNUSED), UseRecord())) == []


class TestOnYourGpu:
    def test_is_said_of_who_stays_there(self) -> None:
        assert kinds(LONG, record=seen(bob=SITS - 1)) == []
        first, other = due([LONG], seen(bob=SITS, lqchen=SITS), NOW)
        assert (first.kind, first.about) == (NoticeKind.ON_YOUR_GPU, "r1-bob")
        assert (first.facts.other, other.facts.other) == ("bob", "lqchen")
