from dataclasses import replace

from reconciler.plan import Planned
from reconciler.rounds.round import drift_after
from reconciler.rounds.watch import SAME_AGAIN, Judge
from state.wire.messages import MOST_DRIFT, Drift, Failure, Report

WELL = Report("gpu17", "r1", 1000.0, 0.1)
HEALED = Report("gpu17", "r1", 2000.0, 0.1, changes=("account: change the account ann: shell",))


def test_a_change_at_the_same_revision_is_drift() -> None:
    assert drift_after(WELL, HEALED) == (Drift(2000.0, HEALED.changes[0]),)


def test_a_change_with_a_new_revision_is_none() -> None:
    assert drift_after(replace(WELL, revision="r0"), HEALED) == ()


def test_what_a_reboot_took_away_is_none() -> None:
    assert drift_after(WELL, HEALED, fresh=True) == ()


def test_what_every_start_of_a_container_brings_is_none() -> None:
    upkeep = replace(HEALED, changes=("hairpin: let containers reach", *HEALED.changes))
    assert drift_after(WELL, upkeep) == (Drift(2000.0, HEALED.changes[0]),)


def test_what_failed_before_and_works_now_is_none() -> None:
    failed = replace(WELL, failures=(Failure("account", "ann", "x", "y"),))
    assert drift_after(failed, HEALED) == ()


def test_the_very_first_round_finds_none() -> None:
    assert drift_after(None, HEALED) == ()


def test_only_the_newest_are_remembered() -> None:
    old = tuple(Drift(float(n), "old") for n in range(MOST_DRIFT))
    now = drift_after(replace(WELL, drift=old), HEALED)
    assert len(now) == MOST_DRIFT
    assert now[-1].when == 2000.0


def test_the_watch_starts_no_round_for_the_same_difference_again_and_again() -> None:
    judge, one = Judge(), [Planned("account", "ann", "x")]
    assert judge.wants_round(one, 0)
    assert not judge.wants_round(one, 5)
    assert judge.wants_round([*one, Planned("account", "bob", "x")], 10)
    assert not judge.wants_round([], 15)
    assert judge.wants_round(one, 20)
    assert judge.wants_round(one, 20 + SAME_AGAIN)
