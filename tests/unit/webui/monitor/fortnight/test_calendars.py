"""What stands around the drawing of a fortnight."""

from __future__ import annotations

import pytest

from state.model.resources import Reservations
from tests.unit.webui.monitor.small_loads import gpu, load
from webui.monitor.fortnight.calendars import command
from webui.monitor.heard.latest import LastHeard


@pytest.mark.parametrize(
    ("gpus", "rules", "words"),
    [
        (8, {}, "2 8h"),
        (3, {}, "1 8h"),
        (1, {}, "1 8h"),
        (8, {"most_gpus": 1}, "1 8h"),
        (2, {"most_gpus": 4, "longest": "3d"}, "2 8h"),
        (8, {"longest": "4h"}, "2 4h"),
        (8, {"most": 0}, ""),
        (0, {}, ""),
    ],
)
def test_the_command_below_a_drawing_is_one_that_the_rules_allow(
    gpus: int, rules: dict[str, int | str] | dict[str, int] | dict[str, str], words: str
) -> None:
    seen = LastHeard("gpu17", load("gpu17", *map(gpu, range(gpus))))
    wanted = f"ssh gpu17-manage reserve {words}" if words else ""
    assert command(seen, Reservations.model_validate(rules)) == wanted
