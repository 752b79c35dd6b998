"""What is said of a start that came to nothing."""

from __future__ import annotations

import pytest

from reconciler.requests.unit import not_started
from state import bus
from state.errors import Remedy


@pytest.mark.parametrize(
    ("result", "code", "says", "remedy"),
    [
        ("failed", "container-ended", "ended as soon as", None),
        (bus.LATE, "not-started", "it may still do so", Remedy.WAIT),
        ("canceled", "not-started", "it says: canceled", Remedy.RETRY),
        ("dependency", "not-started", "it says: dependency", Remedy.RETRY),
    ],
)
def test_only_what_began_is_said_to_have_ended(
    result: str, code: str, says: str, remedy: Remedy | None
) -> None:
    error = not_started("lxc-gpu@ann.service", result, 60.0)
    assert error.code == code
    assert says in error.message
    if remedy is not None:
        assert error.remedy == remedy
