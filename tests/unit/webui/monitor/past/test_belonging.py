"""Who counts in which group, in weeks of before and after."""

from __future__ import annotations

import pytest

from tests.unit.webui.monitor.shown.test_usage import used
from webui.monitor.past.belonging import Belonging

BELONGING = Belonging(
    {
        "ann": [("2026-W47", ("Vision",)), ("2026-W50", ("Robotics", "Vision")), ("2027-W01", ())],
        "bob": [("2026-W52", ())],
    }
)


@pytest.mark.parametrize(
    ("user", "week", "groups"),
    [
        ("ann", "2026-W40", ("Vision",)),  # before the first look: as of it
        ("ann", "2026-W47", ("Vision",)),
        ("ann", "2026-W49", ("Vision",)),
        ("ann", "2026-W50", ("Robotics", "Vision")),
        ("ann", "2026-W53", ("Robotics", "Vision")),
        ("ann", "2027-W01", ("others",)),
        ("bob", "2026-W52", ("others",)),
        ("nobody-knows", "2026-W52", ("others",)),
    ],
)
def test_a_week_keeps_the_groups_of_then(
    user: str, week: str, groups: tuple[str, str] | tuple[str]
) -> None:
    assert BELONGING.counted(used("gpu17", user, 1.0, week)) == groups
