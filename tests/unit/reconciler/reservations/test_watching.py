"""Who is on somebody else's GPU, and who leaves theirs unused: what looks add up to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.host import places
from reconciler.reservations import use_record
from reconciler.reservations.book import Reservation
from reconciler.reservations.watching import (
    LONGEST_GAP,
    MOST_TOLD,
    REST,
    UNUSED,
    Intrusion,
    Program,
    Programs,
    ReservationUse,
    UseRecord,
    WatchResult,
    judge,
    rested,
)

MINE = Reservation("r1", "ann", ("GPU-0", "GPU-1"), begins=0, ends=9e9, made=0)
ANN, BOB, BOB_TOO = Program("ann", 11, 7), Program("bob", 12, 7), Program("bob", 13, 8)
NOBODY: Programs = {"GPU-0": [], "GPU-1": []}
STEP = 60.0


def looks(
    *programs: Programs | None, step: float = STEP, mine: Reservation = MINE
) -> list[WatchResult]:
    """What came of these looks, one after the other."""
    found, before = [], UseRecord()
    for number, each in enumerate(programs):
        found.append(judge(before, 1000 + number * step, [mine], each))
        before = found[-1].record
    return found


def last(*programs: Programs | None, step: float = STEP) -> ReservationUse:
    return looks(*programs, step=step)[-1].record.of["r1"]


class TestIntruders:
    def test_are_told_once_for_each_program(self) -> None:
        found = looks({"GPU-0": [BOB]}, {"GPU-0": [BOB]}, {"GPU-0": [BOB, BOB_TOO]})
        told = (Intrusion("bob", MINE, ("GPU-0",)),)
        assert [each.intrusions for each in found] == [told, (), told]

    def test_one_word_for_all_gpus_of_a_reservation(self) -> None:
        (found,) = looks({"GPU-0": [BOB], "GPU-1": [BOB]})
        assert found.intrusions == (Intrusion("bob", MINE, ("GPU-0", "GPU-1")),)

    def test_a_number_that_came_again_is_another_program(self) -> None:
        found = looks({"GPU-0": [BOB]}, {"GPU-0": [replace(BOB, started=99)]})
        assert found[-1].intrusions

    def test_not_again_after_a_pause_on_the_gpu(self) -> None:
        found = looks({"GPU-0": [BOB]}, NOBODY, {"GPU-0": [BOB]})
        assert not found[-1].intrusions

    def test_again_for_another_reservation(self) -> None:
        before = judge(UseRecord(), 1000, [MINE], {"GPU-0": [BOB]}).record
        assert judge(before, 1060, [replace(MINE, id="r2")], {"GPU-0": [BOB]}).intrusions

    def test_are_named_while_they_are_there(self) -> None:
        assert last({"GPU-0": [BOB]}, {"GPU-0": [BOB]}).intruders == {"bob": STEP}
        assert last({"GPU-0": [BOB]}, NOBODY).intruders == {}

    def test_nobody_on_ones_own_or_on_a_free_gpu(self) -> None:
        (found,) = looks({"GPU-0": [ANN], "GPU-2": [BOB]})
        assert found.intrusions == ()
        assert found.record.of["r1"].intruders == {}

    def test_after_handing_over_the_one_before_is_on_anothers(self) -> None:
        before = judge(UseRecord(), 1000, [MINE], {"GPU-0": [ANN]}).record
        theirs = replace(MINE, user="bob")
        found = judge(before, 1060, [theirs], {"GPU-0": [ANN]})
        assert found.intrusions == (Intrusion("ann", theirs, ("GPU-0",)),)

    def test_many_programs_of_one_make_no_others_be_told_again(self) -> None:
        crowd = [Program("eve", number, 7) for number in range(100, 100 + 3 * MOST_TOLD)]
        found = looks({"GPU-0": [BOB]}, {"GPU-0": [BOB, *crowd]}, {"GPU-0": [BOB, *crowd]})
        assert {each.user for look in found[1:] for each in look.intrusions} == {"eve"}
        assert len(found[-1].record.of["r1"].told["eve"]) == MOST_TOLD


class TestUnused:
    def test_counts_from_the_first_look(self) -> None:
        assert last(NOBODY).unused == 0
        assert last(*[NOBODY] * 10).unused == 9 * STEP

    def test_any_program_of_ones_own_on_any_of_them_is_use(self) -> None:
        assert last(*[NOBODY] * 10, {**NOBODY, "GPU-1": [ANN, BOB]}).unused == 0
        assert last(*[NOBODY] * 10, {**NOBODY, "GPU-1": [ANN]}, NOBODY).unused == STEP

    def test_somebody_elses_program_is_none(self) -> None:
        assert last(*[{**NOBODY, "GPU-0": [BOB]}] * 10).unused == 9 * STEP

    def test_what_the_driver_does_not_say_counts_for_nobody(self) -> None:
        found = looks({"GPU-0": [BOB]}, NOBODY, None, NOBODY)
        assert found[2].record.of["r1"].unused == STEP
        assert found[2].intrusions == ()
        assert found[3].record.of["r1"].unused == 2 * STEP

    def test_nor_does_a_gpu_that_was_lost(self) -> None:
        assert last(NOBODY, NOBODY, {"GPU-0": []}).unused == STEP

    def test_time_without_looks_does_not_count(self) -> None:
        assert last(NOBODY, NOBODY, step=86400).unused == LONGEST_GAP

    def test_begins_anew_after_handing_over_and_after_a_boot(self) -> None:
        before = UseRecord(1000, {"r1": ReservationUse("ann", UNUSED)})
        assert judge(before, 1060, [replace(MINE, user="bob")], NOBODY).record.of["r1"].unused == 0
        assert judge(before, 10, [MINE], NOBODY).record.of["r1"].unused == 0

    def test_what_is_over_is_forgotten(self) -> None:
        before = UseRecord(1000, {"r1": ReservationUse("ann", UNUSED)})
        assert judge(before, 1060, [], NOBODY).record.of == {}


class TestKept:
    @pytest.fixture(autouse=True)
    def _here(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(places, "RESERVATIONS_SEEN", tmp_path / "seen.json")

    def test_comes_back_as_it_was(self) -> None:
        record = looks({"GPU-0": [BOB]}, {"GPU-0": [BOB, BOB_TOO]})[-1].record
        use_record.write_record(record)
        assert use_record.read_record() == record

    @pytest.mark.parametrize(
        "text", ["", "{", "[]", '{"looked": 1e999, "of": {}}', '{"looked": 1, "of": {"r1": 7}}']
    )
    def test_garbage_is_nothing(self, text: str) -> None:
        places.RESERVATIONS_SEEN.write_text(text)
        assert use_record.read_record() == UseRecord()

    def test_an_old_look_names_nobody(self) -> None:
        record = UseRecord(1000, {"r1": ReservationUse("ann", UNUSED, {"bob": 60})})
        assert use_record.of_now(record, 1060) == record.of
        assert use_record.of_now(record, 1000 + use_record.STALE + 1) == {}
        assert use_record.of_now(record, 999) == {}

    def test_unused_is_said_from_an_hour_on(self) -> None:
        assert use_record.unused_since(ReservationUse("ann", UNUSED - 1), 1e9) is None
        assert use_record.unused_since(ReservationUse("ann", UNUSED), 1e9) == 1e9 - UNUSED


class TestWhoLetsUsWait:
    def test_is_told_nothing_for_a_day_and_named_all_the_same(self) -> None:
        first = judge(UseRecord(), 1000, [MINE], {"GPU-0": [BOB]}).record
        before = rested(first, ["bob"])
        found = judge(before, 1060, [MINE], {"GPU-0": [BOB_TOO]})
        assert found.intrusions == ()
        assert "bob" in found.record.of["r1"].intruders
        later = judge(replace(before, looked=1000), 1060 + REST, [MINE], {"GPU-0": [ANN, BOB_TOO]})
        assert [each.user for each in later.intrusions] == ["bob"]
        assert later.record.resting == {}
