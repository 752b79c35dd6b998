from reconciler.plan import Planned
from reconciler.rounds.drift import LONGEST_PAUSE, Sparing, drift_after, remembered
from reconciler.rounds.watch import LOOK_EVERY, Judge
from state.wire.messages import MOST_DRIFT, Drift, Failure, Report

WELL = Report("gpu17", "r1", 1000.0, 0.1)
HEALED = Report("gpu17", "r1", 2000.0, 0.1, changes=("account: change the account ann: shell",))


def test_a_change_at_the_same_revision_is_drift() -> None:
    assert drift_after(WELL, HEALED) == (Drift(2000.0, HEALED.changes[0]),)


def test_a_change_with_a_new_revision_is_none() -> None:
    assert drift_after(WELL._replace(revision="r0"), HEALED) == ()


def test_what_a_reboot_took_away_is_none() -> None:
    assert drift_after(WELL, HEALED, fresh=True) == ()


def test_what_every_start_of_a_container_brings_is_none() -> None:
    upkeep = HEALED._replace(changes=("bridge_port: let ann's container reach", *HEALED.changes))
    assert drift_after(WELL, upkeep) == (Drift(2000.0, HEALED.changes[0]),)


def test_what_failed_before_and_works_now_is_none() -> None:
    failed = WELL._replace(failures=(Failure("account", "ann", "x", "y"),))
    assert drift_after(failed, HEALED) == ()


def test_the_very_first_round_finds_none() -> None:
    assert drift_after(None, HEALED) == ()


def test_a_newer_revision_that_can_not_be_had_hides_no_drift() -> None:
    refused = "The state repository can't be reached."
    assert drift_after(WELL._replace(refused=refused), HEALED._replace(refused=refused)) != ()


def test_only_the_newest_are_remembered() -> None:
    old = tuple(Drift(float(n), f"old {n}") for n in range(MOST_DRIFT))
    now = remembered(old, drift_after(WELL, HEALED))
    assert len(now) == MOST_DRIFT
    assert now[-1].when == 2000.0


def test_what_drifts_again_and_again_takes_one_place() -> None:
    known = (Drift(1.0, "the same"), Drift(2.0, "another"))
    assert remembered(known, (Drift(3.0, "the same"),)) == (known[1], Drift(3.0, "the same"))


ANN, BOB = Planned("account", "ann", "x"), Planned("account", "bob", "y")


def test_what_was_healed_and_comes_back_is_healed_at_once() -> None:
    judge = Judge()
    for now in range(5):
        assert judge.due([ANN], now) == {ANN}
        judge.tried({ANN}, ["account: x"], now)
        assert not judge.is_patient


def test_what_can_not_be_healed_is_tried_after_pauses_that_grow() -> None:
    judge, now, pauses = Judge(), 0.0, []
    for _ in range(9):
        assert judge.due([ANN], now) == {ANN}
        judge.tried({ANN}, [], now)
        asked = now
        while not judge.due([ANN], now):
            now += LOOK_EVERY
        pauses.append(now - asked)
    assert pauses == [5, 10, 20, 40, 80, 160, 300, 300, 300]


def test_patience_with_one_difference_is_none_with_another() -> None:
    judge = Judge()
    judge.tried(judge.due([ANN], 0), [], 0)
    assert judge.due([ANN, BOB], 1) == {BOB}
    judge.tried({BOB}, ["account: y"], 1)
    assert judge.due([ANN, BOB], 2) == {BOB}


def test_what_went_away_and_comes_back_is_new() -> None:
    judge = Judge()
    judge.tried(judge.due([ANN], 0), [], 0)
    assert judge.due([], 1) == frozenset()
    assert judge.due([ANN], 2) == {ANN}


def test_a_storm_of_drift_does_not_fill_the_journal() -> None:
    lines: list[tuple[str, dict[str, object]]] = []
    now = 0.0
    sparing = Sparing(lambda code, **fields: lines.append((code, fields)), lambda: now)
    for second in range(86_400):
        now = float(second)
        sparing.catch_up()
        sparing.event("drift", what="a hook is gone")
    assert lines[0] == ("drift", {"what": "a hook is gone"})
    assert 24 <= len(lines) < 40
    times = sum(fields.get("times", 1) for _, fields in lines)  # type: ignore[misc]
    assert 86_400 - LONGEST_PAUSE <= times <= 86_400


def test_drift_that_is_rare_is_told_each_time() -> None:
    lines: list[str] = []
    now = 0.0
    sparing = Sparing(lambda code, **fields: lines.append(code), lambda: now)
    for _ in range(3):
        sparing.event("drift", what="a hook is gone")
        now += 2 * LONGEST_PAUSE
        sparing.catch_up()
    assert lines == ["drift"] * 3
