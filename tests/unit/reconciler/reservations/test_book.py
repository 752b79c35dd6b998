"""The book: whatever people do in whatever order, no GPU is anybody's twice, nothing is lost."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.reservations import book_file
from reconciler.reservations.book import (
    DAY,
    HOUR,
    KEPT,
    LEAP,
    MOST_OPEN,
    MOST_PAST,
    Book,
    Reservation,
)
from state.errors import LxcGpuError

NOW = 1_800_000_000.0 // 60 * 60
RUNS = 1e6
"""The boot's clock then."""
GPUS = tuple(f"GPU-{number}" for number in range(4))


def book_with(*entries: tuple[str, str, float, float]) -> Book:
    """User, GPUs by index, from and until in hours from now."""
    book = Book(clock=NOW, sure=NOW, boot=RUNS)
    for user, gpus, begins, ends in entries:
        names = [GPUS[int(each)] for each in gpus]
        book, _ = book.reserve(user, names, ((NOW + begins * HOUR, NOW + ends * HOUR),), NOW)
    return book


def test_a_reservation_ends_where_the_next_one_begins() -> None:
    book = book_with(("ann", "01", 0, 8), ("li", "01", 8, 9))
    assert book.unreserved(GPUS, ((NOW, NOW + 1),)) == GPUS[2:]
    assert book.unreserved(GPUS, ((NOW + 9 * HOUR, NOW + 10 * HOUR),)) == GPUS
    with pytest.raises(ValueError, match="free"):
        book.reserve("li", GPUS[:1], ((NOW + 7 * HOUR, NOW + 8 * HOUR),), NOW)
    assert [each.user for each in book.at(NOW + 8 * HOUR)] == ["li"]


def test_a_series_is_one_thing_with_many_ids() -> None:
    book, made = Book(last=4).reserve("ann", GPUS[:2], ((1e9, 2e9), (3e9, 4e9)), 0)
    assert [(each.id, each.series) for each in made] == [("r5", "s5"), ("r6", "s5")]
    assert book.last == 6


def test_what_is_released_under_way_stays_as_long_as_it_was() -> None:
    book = book_with(("ann", "0", 0, 8), ("ann", "1", 20, 30))
    left = book.release(book.of("ann"), NOW + 2 * HOUR + 7)
    assert [(each.begins, each.ends) for each in left.open] == [(NOW, NOW + 2 * HOUR)]
    assert book.release(book.of("ann"), NOW + 7).open == ()


def test_who_takes_over_has_the_rest_only() -> None:
    book = book_with(("ann", "0", 0, 8), ("ann", "1", 20, 30))
    one, other = book.of("ann")
    book, theirs = book.hand_over(one, "li", NOW + HOUR)
    assert (theirs.id, theirs.user, theirs.begins) == ("r1", "li", NOW + HOUR)
    book, later = book.hand_over(other, "li", NOW + HOUR)
    assert (later.id, later.begins) == ("r2", NOW + 20 * HOUR)
    assert [(each.id, each.ends) for each in book.of("ann")] == [("r3", NOW + HOUR)]


def test_extending_takes_nobodys() -> None:
    book = book_with(("ann", "0", 0, 8), ("li", "0", 10, 12))
    longer, changed = book.extend(book.of("ann")[0], NOW + 10 * HOUR)
    assert changed.ends == NOW + 10 * HOUR
    with pytest.raises(ValueError, match="free"):
        longer.extend(changed, NOW + 10 * HOUR + 60)


def test_who_has_left_has_nothing_ahead() -> None:
    book = book_with(("ann", "0", 0, 8), ("ann", "0", 20, 30), ("li", "1", 0, 8))
    left = book.only_of(["li"], NOW + HOUR)
    assert [(each.user, each.ends) for each in left.open] == [
        ("ann", NOW + HOUR), ("li", NOW + 8 * HOUR),
    ]  # fmt: skip
    assert left.without("ann").of("ann") == ()


def test_how_many_one_has_at_a_time() -> None:
    book = book_with(("ann", "0", 0, 2), ("ann", "1", 2, 4), ("ann", "2", 3, 5), ("li", "3", 0, 9))
    assert book.reserved_by("ann", NOW, NOW + 9 * HOUR) == 2
    assert book.reserved_by("ann", NOW, NOW + 3 * HOUR) == 1
    assert book.reserved_by("ann", NOW, NOW + 9 * HOUR, without="r3") == 1
    assert book.reserved_by("ann", NOW + 5 * HOUR, NOW + 9 * HOUR) == 0


def test_the_book_has_an_end() -> None:
    book = Book()
    for number in range(MOST_OPEN):
        book, _ = book.reserve("ann", GPUS, ((NOW + number * 60, NOW + number * 60 + 60),), NOW)
    with pytest.raises(LxcGpuError) as caught:
        book.reserve("ann", GPUS, ((NOW - 60, NOW),), NOW)
    assert caught.value.code == "reservations-full"
    assert book.reserve("ann", GPUS, ((NOW - 60, NOW),), NOW + 120)


class TestTime:
    def test_what_is_over_is_kept_for_ninety_days_then_as_a_sum(self) -> None:
        book = book_with(("ann", "01", 0, 8), ("li", "1", 8, 9))
        week = book.aged(NOW + 7 * DAY, RUNS + 7 * DAY)
        assert (len(week.open), len(week.past), week.sums) == (0, 2, {})
        months = week.aged(NOW + 85 * DAY, RUNS + 85 * DAY).aged(NOW + 99 * DAY, RUNS + 99 * DAY)
        assert months.past == ()
        assert {user: list(each.values()) for user, each in months.sums.items()} == {
            "ann": [16.0], "li": [1.0],
        }  # fmt: skip
        assert months.last == book.last

    def test_so_many_past_ones_at_most(self) -> None:
        many = tuple(
            Reservation(f"r{n}", "ann", GPUS[:1], NOW + n * 60, NOW + n * 60 + 60, NOW)
            for n in range(MOST_PAST + 5)
        )
        book = Book((), many, {}, len(many), NOW).aged(NOW + 30 * DAY, RUNS)
        assert len(book.past) == MOST_PAST
        assert sum(book.sums["ann"].values()) == pytest.approx(5 / 60, abs=0.01)

    def test_who_reserves_and_releases_all_day_makes_nobodys_look_longer(self) -> None:
        many = tuple(
            Reservation(f"r{n}", "ann", GPUS[:1], NOW + n * 60, NOW + n * 60 + 60, NOW)
            for n in range(2000)
        )
        book = Book(many, clock=NOW).aged(NOW + DAY * 1.5, RUNS)
        assert (len(book.open), len(book.past)) == (MOST_OPEN, 2000 - MOST_OPEN)
        assert book.open[-1].id == "r1999"

    @pytest.mark.parametrize("leap", [3600.0, DAY, 60 * DAY, 400 * DAY, 54 * 365 * DAY])
    @pytest.mark.parametrize("changes", [1, 20])
    def test_a_clock_that_leaps_ahead_and_comes_back_loses_nothing(
        self, leap: float, changes: int
    ) -> None:
        book = book_with(("ann", "0", 0, 8), ("li", "0", 24, 48), ("li", "1", 24, 48))
        leapt = book
        for number in range(changes):
            leapt = book_file.from_json(
                book_file.to_json(leapt.aged(NOW + leap + number, RUNS + number))
            )
        back = leapt.aged(NOW + 60, RUNS + 60)
        assert back.open == book.open
        assert back.sums == {}

    def test_a_clock_that_goes_back_loses_nothing(self) -> None:
        book = book_with(("ann", "0", 0, 8), ("li", "0", 24, 48))
        back = book.aged(1.0, RUNS)
        assert back.open == book.open
        assert back.aged(NOW + 60, RUNS + 60) == book.aged(NOW + 60, RUNS + 60)

    def test_a_server_that_was_off_for_long_ages_in_the_end(self) -> None:
        book = book_with(("ann", "0", 0, 8)).aged(NOW + 8 * HOUR, RUNS)
        later = NOW + 220 * DAY
        for day in range(200):
            book = book.aged(later + day * DAY, 60.0 + day * DAY)
        assert (book.open, book.past) == ((), ())
        assert sum(book.sums["ann"].values()) == 8.0

    @pytest.mark.parametrize("reboots", [False, True])
    def test_a_clock_that_is_wrong_for_a_week_loses_nothing_however_much_is_changed(
        self, reboots: bool
    ) -> None:
        book = book_with(("ann", "0", 0, 8), ("li", "0", 24 * 9, 24 * 10))
        for hour in range(24 * 7):
            boot = (hour % 24 + 1) * HOUR if reboots else RUNS + hour * HOUR
            book = book.aged(NOW + 12 * 365 * DAY + hour * HOUR, boot)
        back = book.aged(NOW + 7 * DAY, RUNS + 8 * DAY)
        assert [each.id for each in back.ahead(NOW + 7 * DAY)] == ["r2"]
        assert back.sums == {}

    def test_leaps_one_after_the_other_lose_nothing(self) -> None:
        book = book_with(("li", "0", 24 * 9, 24 * 10))
        for leap in range(20):
            book = book.aged(NOW + leap * LEAP * 0.9, RUNS + leap).aged(NOW, RUNS + leap)
        assert [each.id for each in book.ahead(NOW)] == ["r1"]

    def test_a_leap_that_is_believed_makes_no_sum_of_what_is_to_come(self) -> None:
        assert LEAP + 60 * DAY <= KEPT


_STEP = st.tuples(
    st.sampled_from(["reserve", "release", "extend", "hand over", "age", "leave"]),
    st.sampled_from(["ann", "li", "wu"]),
    st.sets(st.sampled_from(GPUS), min_size=1).map(lambda each: tuple(sorted(each))),
    st.integers(-600, 3000),
    st.integers(1, 2000),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(_STEP, max_size=20))
def test_no_gpu_is_anybodys_twice_whatever_people_do(
    steps: list[tuple[str, str, tuple[str, ...], int, int]],
) -> None:
    """Times are in minutes; the clock goes where it likes."""
    book, now, boot = Book(), NOW, 0.0
    for what, user, gpus, minutes, long in steps:
        boot += abs(minutes) * 600
        book, begins = book.aged(now, boot), now + abs(minutes) * 60
        own = book.of(user, now)
        if what == "reserve" and book.unreserved(gpus, ((begins, begins + long * 60),)) == gpus:
            book, _ = book.reserve(user, gpus, ((begins, begins + long * 60),), now)
        elif what == "release":
            book = book.release(own[:1], now)
        elif what == "extend" and own:
            until = own[0].ends + long * 60
            if book.unreserved(own[0].gpus, ((own[0].ends, until),)) == own[0].gpus:
                book, _ = book.extend(own[0], until)
        elif what == "hand over" and own:
            book, _ = book.hand_over(own[0], "wu", now)
        elif what == "leave":
            book = book.only_of({"ann", "li", "wu"} - {user}, now)
        else:
            now = NOW + minutes * 60 * 50  # a month back, a hundred days ahead
        assert book_file.from_json(book_file.to_json(book)) == book
        every = [*book.open, *book.past]
        assert len({each.id for each in every}) == len(every)
        for one in every:
            assert one.begins < one.ends
            for other in every:
                shared = set(one.gpus) & set(other.gpus)
                assert one is other or not shared or not one.meets(other.begins, other.ends)


def test_an_id_is_never_given_twice() -> None:
    book = book_with(("ann", "0", 0, 8))
    book = book.release(book.of("ann"), NOW)
    book, (again,) = book.reserve("ann", GPUS[:1], ((NOW, NOW + 60),), NOW)
    assert again.id == "r2"
    assert replace(book, open=()).last == 2
