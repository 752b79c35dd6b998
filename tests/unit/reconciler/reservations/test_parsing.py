"""What people type, as it comes over ssh, and what the rules say to it."""

from __future__ import annotations

import time
from datetime import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.reservations import parsing, rules, times
from reconciler.reservations.book import HOUR, Book, Reservation
from reconciler.reservations.book_file import from_json, to_json
from reconciler.reservations.parsing import ParsedReserve, chosen, parse_extension, parse_reserve
from reconciler.reservations.rules import GpuRequest, Rules
from shells.usage import Verb, parse
from state.errors import LxcGpuError
from state.view import Reservable
from tests.unit.reconciler.views import with_

NOW = datetime(2026, 11, 26, 15, 7).timestamp() + 31  # a Thursday
BEGIN = NOW // 60 * 60
THERE = tuple(f"GPU-{n}a1bd0a3-9d4e-4d12-8b5e-2f6c1c6f0e01" for n in range(4))


def typed(line: str) -> ParsedReserve:
    """What `reserve LINE` means: as login shell and root helper read it."""
    return parse_reserve(parse(Verb.RESERVE, line.split()), NOW, THERE)


def at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


class TestReserve:
    @pytest.mark.parametrize(
        "line",
        ["2 8h", "8h 2", "2 gpus for 8 hours", "2 GPUs 8 h", "2 8h --from now", "2 7h 1h",
         "2 8h --from today", "2 8h --from thursday", "2 8h --from 2026-11-26",
         "2 8h --from 2026-11-26 15:07",
         "2 --from now 8h", "2 480m", "for 8h 2", "'2 8h'", '"2" "8h"', "2 8h now"],
    )  # fmt: skip
    def test_a_number_and_a_length(self, line: str) -> None:
        assert typed(line) == ParsedReserve(2, (), 8 * HOUR, BEGIN, False, None, "2 8h")

    @pytest.mark.parametrize(
        "line",
        ["2 8h --from tomorrow 9:00", "2 8h --from 'tomorrow 9:00'", "2 8h --from=tomorrow 9:00",
         "--from tomorrow 9:00 2 8h", "2 8h tomorrow 9am", "2 for 8h from tomorrow at 9:00",
         "2 8h --from 2026-11-27 9:00", "2 --from tomorrow 9:00 --until 17:00",
         "2 --until 17:00 --from '9:00 tomorrow'", "2 8h --from friday 9:00"],
    )  # fmt: skip
    def test_from_a_moment_on(self, line: str) -> None:
        order = typed(line)
        assert (order.count, order.seconds) == (2, 8 * HOUR)
        assert order.begins == at("2026-11-27 09:00")

    @pytest.mark.parametrize(
        "line",
        [f"{THERE[1]} {THERE[3]} 1d", "GPU-1a1bd0a3 gpu-3A1B 1d", "gpu1 gpu3 1d", "1,3 1d",
         "gpu 1 gpu 3 24h", "#1 #3 1d", "1,3 for 1 day", "1d 1,3"],
    )  # fmt: skip
    def test_certain_gpus(self, line: str) -> None:
        order = typed(line)
        assert (order.count, order.gpus, order.seconds) == (2, (THERE[1], THERE[3]), 24 * HOUR)

    def test_zero_can_only_be_an_index(self) -> None:
        assert typed("0 8h").gpus == (THERE[0],)

    def test_a_series(self) -> None:
        order = typed("4 2h --from mon 14:00 --every week --until 2026-12-14")
        assert (order.begins, order.weekly_until) == (at("2026-11-30 14:00"), at("2026-12-15"))
        assert typed("--every week 4 2h --until 14.12. --from mon 14:00") == order

    def test_first_free(self) -> None:
        for line in ("2 8h --first-free", "--first-free 2 8h", "2 --first-free 8h"):
            assert typed(line).first_free
            assert typed(line).count == 2

    @pytest.mark.parametrize(
        ("line", "says"),
        [
            ("", "How many GPUs"), ("2", "For how long"), ("8h", "How many GPUs"),
            ("1 3 8h", "two things"), ("2 8h 9:00 10:00", "two times"),
            ("2 8h --from tomorow", "not a time"), ("2 8h --until 18:00", "either a length"),
            ("2 8h --from 2025-01-01", "in the past"), ("2 8h --from today 9:00", "in the past"),
            ("2 8h today 9:00", "in the past"), ("2 8h --from 2026-11-26 15:06", "in the past"),
            ("2 8h --from in 999999w --every week --until in 1d", "within a year"),
            ("2 8h --from in 367d", "within a year"), ("2 --until 2026-11-01", "ends before"),
            ("2 8h --every day --until friday", "weekly"), ("2 8h --every week", "last day"),
            ("2 8h --every week --until 2027-01-01 --first-free", "not a series"),
            ("gpu9 8h", "numbered from 0 to 3"), ("GPU-ffffffff 8h", "no GPU"),
            ("GPU-0a1b GPU-0a1b 8h", "a GPU twice"), ("3 gpu1 8h", "a number of GPUs"),
            ("2 8h please", "not understood"), ("-2 8h", "not understood"),
            ("2 -8h", "not understood"), ("2 0h", "from a minute"), ("2 900000d", "to a year"),
            ("99999999999 8h", "not understood"), ("2 9999999999h", "not understood"),
            ("2 8h --frm now", "takes no"), ("2 8h --first-free --first-free", "twice"),
            ("2 8h --from", "needs a value"), ("2 8h --first-free=2", "takes no value|can't be"),
            ("٢ 8h", "can't be"), ("2 8h --from \uff19:00", "can't be"),
            ("2 8h \x1b[2J", "can't be"),
            (" ".join(["2"] * 30), "can't be"), ("2 " + "8" * 70 + "h", "can't be"),
        ],
    )  # fmt: skip
    def test_what_can_not_be_understood_says_how_to_say_it(self, line: str, says: str) -> None:
        with pytest.raises(LxcGpuError, match=says) as caught:
            typed(line)
        assert caught.value.code == "usage"
        assert "`" in caught.value.hint or caught.value.hint.startswith("They are numbered")

    def test_what_it_would_type_again_means_the_same(self) -> None:
        for line in ("2 90m", "1,3 1d12h"):
            order = typed(line)
            assert typed(order.typed) == order


WORDS = """
2 0 1,3 gpu1 gpu GPU-0a1b 8h 8 h 1d12h 1.5 now tomorrow 9:00 9am friday next 2026-12-01 31.2. at for
in +2h 9999-12-31 0001-01-01 --from --until --every --first-free week --extend --to= = -- --what=2
999999d 999999w 99999999999999999999 1e9 ' " -1
"""


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from(WORDS.split()), max_size=9))
def test_any_words_are_an_order_or_are_not_understood(words: list[str]) -> None:
    order, code = None, ""
    try:
        order = typed(" ".join(words))
    except LxcGpuError as error:
        code = error.code
    assert order or code == "usage"
    if order:
        assert 0 < order.count < 10**6
        assert times.MINUTE <= order.seconds <= times.LONGEST
        assert BEGIN <= order.begins < 253_402_300_800
        assert order.begins % 60 == order.seconds % 60 == 0


OWN = (
    Reservation("r5", "ann", THERE[:1], BEGIN, BEGIN + HOUR, NOW),
    Reservation("r6", "ann", THERE[:1], BEGIN + 9 * HOUR, BEGIN + 10 * HOUR, NOW, "s6"),
    Reservation("r7", "ann", THERE[:1], BEGIN + 19 * HOUR, BEGIN + 20 * HOUR, NOW, "s6"),
)


@pytest.mark.parametrize(
    ("words", "ids"),
    [("r5", ["r5"]), ("5", ["r5"]), ("R5", ["r5"]), ("s6", ["r6", "r7"]), ("6", ["r6"]),
     ("r5 s6", ["r5", "r6", "r7"])],
)  # fmt: skip
def test_which_one_is_meant(words: str, ids: list[str]) -> None:
    assert [each.id for each in chosen(words, OWN, "release")] == ids


def test_unnamed_the_only_one_is_meant() -> None:
    assert chosen("", OWN[:1], "release") == OWN[:1]
    assert chosen("", OWN[1:], "release") == OWN[1:]
    with pytest.raises(LxcGpuError, match=r"Which one\? You have r5 \(Thu") as caught:
        chosen("", OWN, "release")
    assert caught.value.hint == "Type: `release r5`"
    for words, own in (("", ()), ("r9", OWN), ("ann", OWN), ("r5; reboot", OWN)):
        with pytest.raises(LxcGpuError) as caught:
            chosen(words, own, "release")
        assert caught.value.code == "reservation-unknown"


def test_how_much_longer() -> None:
    for words in ("r17 2h", "2h r17", "2 hours r17", "r17 by 2 h", "r17 1h 60m"):
        assert parse_extension(words) == (2 * HOUR, "r17")
    assert parse_extension("2h") == (2 * HOUR, "")
    for words in ("", "r17", "2h r17 r18", "tomorrow", "0h", "-2h"):
        with pytest.raises(LxcGpuError):
            parse_extension(words)


class TestRules:
    RULES = Rules(most_gpus=2, longest=24 * HOUR, ahead=14 * 24 * HOUR, most=2)

    @staticmethod
    def wish(count: int = 2, hours: float = 8, user: str = "ann") -> GpuRequest:
        return GpuRequest(
            user, count, THERE, hours * HOUR, f"{count} {times.length_in_words(hours * HOUR)}"
        )

    def refused(
        self, book: Book, wish: GpuRequest, *begins: float, rules_: Rules = RULES
    ) -> LxcGpuError:
        with pytest.raises(LxcGpuError) as caught:
            rules.allow(rules_, book, wish, begins or (BEGIN,), NOW)
        assert caught.value.code == "reservation-rules"
        return caught.value

    def test_what_a_server_says_nothing_of(self) -> None:
        assert rules.rules_of(with_(), 8) == Rules(4, 24 * HOUR, 14 * 24 * HOUR, 2)
        assert rules.rules_of(with_(), 1).most_gpus == 1
        said = rules.rules_of(with_(reservations=Reservable(8, 72, 24, 5)), 8)
        assert said == Rules(8, 72 * HOUR, 24 * HOUR, 5)

    def test_each_rule_says_what_may_be(self) -> None:
        rules.allow(self.RULES, Book(), self.wish(), (BEGIN,), NOW)
        assert self.refused(Book(), self.wish(3)).hint == "Type: `reserve 2 8h`"
        assert "lasts 1d at most, not 1d1h" in self.refused(Book(), self.wish(1, 25)).message
        assert "within 14d" in self.refused(Book(), self.wish(), BEGIN + 15 * 86400).message
        assert "has 4 GPUs of" in self.refused(Book(), self.wish(5)).message
        nobody = Rules(2, 24 * HOUR, 24 * HOUR, 0)
        assert self.refused(Book(), self.wish(), rules_=nobody).code == "reservation-rules"
        own = Book(OWN)
        assert self.refused(own, self.wish()).hint.startswith("`release` one of r5, s6")
        assert self.refused(Book(), self.wish(1, 8), BEGIN, BEGIN + HOUR).message

    def test_nobody_has_too_many_at_a_time_by_several_reservations(self) -> None:
        book, _ = Book().reserve("ann", THERE[:1], ((BEGIN, BEGIN + HOUR),), NOW)
        assert rules.fit(self.RULES, book, self.wish(2), (BEGIN,)) == ()
        assert rules.fit(self.RULES, book, self.wish(2), (BEGIN + HOUR,)) == THERE[:2]
        assert rules.fit(self.RULES, book, self.wish(1), (BEGIN,)) == THERE[1:2]
        assert "you have reserved 1 in" in rules.not_free(
            self.RULES, book, self.wish(2), (BEGIN,), NOW).message  # fmt: skip

    def test_the_first_time_at_which_it_fits(self) -> None:
        book, _ = Book().reserve("li", THERE[:3], ((BEGIN, BEGIN + 3 * HOUR),), NOW)
        book, _ = book.reserve("wu", THERE[2:], ((BEGIN + 4 * HOUR, BEGIN + 9 * HOUR),), NOW)

        def first(gpus: int, hours: int) -> float | None:
            return rules.first_free(self.RULES, book, self.wish(gpus, hours), BEGIN, NOW)

        assert first(1, 1) == BEGIN
        assert first(1, 5) == BEGIN + 3 * HOUR
        assert first(2, 1) == BEGIN + 3 * HOUR
        closed = Rules(4, 24 * HOUR, 20 * HOUR, 2, ((BEGIN + 2 * HOUR, BEGIN + 15 * HOUR, "move"),))
        assert rules.first_free(closed, book, self.wish(4, 1), BEGIN, NOW) == BEGIN + 15 * HOUR
        assert rules.first_free(closed, Book(), self.wish(4, 3), BEGIN, NOW) == BEGIN + 15 * HOUR
        never = Rules(4, 24 * HOUR, HOUR, 2)
        assert rules.first_free(never, book, self.wish(4, 1), BEGIN, NOW) is None

    def test_what_does_not_fit_says_who_when_and_what_to_type(self) -> None:
        book, _ = Book().reserve("li", THERE[:3], ((BEGIN, BEGIN + 3 * HOUR),), NOW)
        error = rules.not_free(self.RULES, book, self.wish(), (BEGIN,), NOW)
        assert error.code == "reservation-taken"
        assert (
            "1 of the 4 GPUs is free all that time; li has 3 from Thu 2026-11-26 15:07"
            in error.message
        )
        words = error.hint.partition("Type: `reserve ")[2].partition("`")[0]
        order = typed(words)
        assert order.begins == BEGIN + 3 * HOUR
        assert rules.fit(self.RULES, book, self.wish(), (order.begins,)) == THERE[:2]
        closed = Rules(2, 24 * HOUR, 24 * HOUR, 2, ((BEGIN, BEGIN + HOUR, "New disks"),))
        error = rules.not_free(closed, Book(), self.wish(), (BEGIN,), NOW)
        assert "closed until Thu 2026-11-26 16:07" in error.message
        assert "New disks" in error.message

    def test_a_server_with_one_gpu_says_who_has_it(self) -> None:
        book, _ = Book().reserve("li", THERE[:1], ((BEGIN + 2 * HOUR, BEGIN + 4 * HOUR),), NOW)
        wish = GpuRequest("ann", 1, THERE[:1], 4 * HOUR, "1 4h")
        error = rules.not_free(self.RULES, book, wish, (BEGIN,), NOW)
        assert "it isn't free all that time; li has it from Thu 2026-11-26 17:07" in error.message

    def test_longer_until_somebody_elses_begins(self) -> None:
        book, (own,) = Book().reserve("ann", THERE[:1], ((BEGIN, BEGIN + HOUR),), NOW)
        rules.allow_longer(self.RULES, book, own, own.ends + 2 * HOUR, "2h")
        book, _ = book.reserve("li", THERE[:1], ((BEGIN + 2 * HOUR, BEGIN + 3 * HOUR),), NOW)
        with pytest.raises(LxcGpuError, match="2h: li has reserved its GPU from Thu") as caught:
            rules.allow_longer(self.RULES, book, own, own.ends + 2 * HOUR, "2h")
        assert caught.value.hint == "Type: `reserve --extend r1 1h`"
        with pytest.raises(LxcGpuError, match="1d at most"):
            rules.allow_longer(self.RULES, Book((own,)), own, own.begins + 25 * HOUR, "1d")

    def test_nobody_is_given_more_than_they_may_have(self) -> None:
        book, (own,) = Book().reserve("ann", THERE[:2], ((BEGIN, BEGIN + HOUR),), NOW)
        rules.allow_hand_over(self.RULES, book, own, "li", THERE, NOW, THERE)
        with pytest.raises(LxcGpuError, match="r1 has GPU 1, which the container of li"):
            rules.allow_hand_over(self.RULES, book, own, "li", THERE[:1], NOW, THERE)
        book, _ = book.reserve("li", THERE[2:3], ((BEGIN, BEGIN + HOUR),), NOW)
        with pytest.raises(LxcGpuError, match="more than 2 GPUs"):
            rules.allow_hand_over(self.RULES, book, own, "li", THERE, NOW, THERE)


class TestHandingOver:
    """eve hands things over to bob, who never asked for any."""

    RULES = Rules(most_gpus=4, longest=24 * HOUR, ahead=14 * 24 * HOUR, most=2)

    @staticmethod
    def slots(count: int) -> Book:
        """So many minutes of one GPU, which eve reserves on several days and hands over to bob."""
        book = Book()
        for number in range(count):
            at = BEGIN + (number + 1) * 24 * HOUR
            book, (made,) = book.reserve("eve", THERE[:1], ((at, at + 60),), NOW)
            book, _ = book.hand_over(made, "bob", NOW)
        return book

    def test_keeps_nobody_from_reserving(self) -> None:
        wish = GpuRequest("bob", 1, THERE, HOUR, "1 1h")
        rules.allow(self.RULES, self.slots(2), wish, (BEGIN,), NOW)

    def test_gives_nobody_more(self) -> None:
        wish = GpuRequest("eve", 1, THERE, HOUR, "1 1h")
        with pytest.raises(LxcGpuError, match=r"counts until it is over: r1 \(bob has it\), r2"):
            rules.allow(self.RULES, self.slots(2), wish, (BEGIN,), NOW)
        back = self.slots(2)
        for each in back.of("bob"):
            back, returned = back.hand_over(each, "eve", NOW)
            assert (returned.maker, returned.user) == ("", "eve")
        with pytest.raises(LxcGpuError) as caught:
            rules.allow(self.RULES, back, wish, (BEGIN,), NOW)
        assert caught.value.hint.startswith("`release` one of r1, r2")

    def test_counts_gpus_of_who_has_them(self) -> None:
        book, (own, _) = Book().reserve(
            "eve", THERE[:2], ((BEGIN, BEGIN + HOUR), (BEGIN + HOUR, BEGIN + 2 * HOUR)), NOW
        )
        book, _ = book.hand_over(own, "bob", NOW)
        book, _ = book.reserve("bob", THERE[2:3], ((BEGIN + HOUR, BEGIN + 2 * HOUR),), NOW)
        two = Rules(most_gpus=2, longest=24 * HOUR, ahead=24 * HOUR, most=2)
        with pytest.raises(LxcGpuError, match="more than 2 GPUs"):
            rules.allow_hand_over(two, book, book.of("eve")[0], "bob", THERE, NOW, THERE)

    def test_makes_nothing_longer(self) -> None:
        """Handed to and fro, and extended each time, it is over when one's own would be."""
        book, (each,) = Book().reserve("eve", THERE[:1], ((BEGIN, BEGIN + 24 * HOUR),), NOW)
        for number, user in enumerate(("bob", "eve", "bob"), 1):
            book, each = book.hand_over(each, user, NOW + number * HOUR)
            assert each.began == BEGIN
            with pytest.raises(LxcGpuError, match="1d at most"):
                rules.allow_longer(self.RULES, book, each, each.ends + HOUR, "1h")

    def test_says_who_made_it_unless_that_one_is_purged(self) -> None:
        book = self.slots(1)
        assert book.of("bob")[0].made_by == "eve"
        assert from_json(to_json(book)) == book
        assert book.without("eve").of("bob")[0].made_by == "bob"


def test_the_zone_is_the_servers() -> None:
    assert times.in_words(NOW).endswith(time.strftime(" %Z", time.localtime(NOW)))
    assert parsing.EXAMPLE
