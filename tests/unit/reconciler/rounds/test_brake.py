from dataclasses import replace

import pytest

from reconciler.rounds.brake import check_brake
from state.errors import LxcGpuError
from tests.unit.reconciler.views import VIEW

FIVE = tuple(f"user{n}" for n in range(5))


def test_a_few_may_leave() -> None:
    check_brake(VIEW, FIVE[:3])


def test_many_may_not_and_are_named() -> None:
    with pytest.raises(LxcGpuError, match=r"5 users at once \(user0, user1, .*\); 3 are allowed"):
        check_brake(VIEW, FIVE)


def test_an_admin_lets_exactly_so_many_through() -> None:
    check_brake(replace(VIEW, allow_disable=5), FIVE)
    with pytest.raises(LxcGpuError):
        check_brake(replace(VIEW, allow_disable=4), FIVE)


def test_no_more_than_ten_are_named() -> None:
    with pytest.raises(LxcGpuError, match=r"user09, \.\.\.\)"):
        check_brake(VIEW, [f"user{n:02}" for n in range(500)])
