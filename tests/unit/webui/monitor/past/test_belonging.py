"""Who counts in which group, in weeks of before and after."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.webui.monitor.past.histories import Clock, Opened, asked, hear
from tests.unit.webui.monitor.shown.test_usage import used
from tests.unit.webui.monitor.small_loads import gpu
from webui.monitor.past.belonging import Belonging
from webui.monitor.past.history import History

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


def test_groups_are_kept_and_a_past_week_stays_as_it_was(
    history: History, clock: Clock, opened: Opened
) -> None:
    history.belong({"ann": ("Vision",), "bob": ()})
    hear(history, clock, 65, gpu(0, "ann"), gpu(1, "bob"))
    history.flush()
    clock.now += 7 * 86_400
    history.belong({"bob": ("Vision",)})  # ann has left: nothing is learnt of her any more
    history.flush()
    again = opened(groups=("Vision",))
    again.flush()
    kept = again.belonging()
    assert [kept.of("ann", week) for week in ("2026-W48", "2026-W49")] == [("Vision",)] * 2
    assert [kept.of("bob", week) for week in ("2026-W48", "2026-W49")] == [(), ("Vision",)]
    hear(again, clock, 65, gpu(0, "ann", "bob"), gpu(1, "chi"))
    totals = again.group_totals()["gpu17"]
    assert (totals["Vision"].gpu, totals["others"].gpu) == (60, 60)


def test_the_same_groups_each_hour_are_written_once(
    history: History, clock: Clock, tmp_path: Path
) -> None:
    for _ in range(5):
        history.belong({"ann": ("Vision",)})
        history.flush()
        clock.now += 7 * 86_400
    rows = asked(tmp_path / "history.db", "SELECT * FROM belongs")
    assert rows == [("ann", "2026-W48", '["Vision"]')]


def test_groups_that_could_not_be_written_are_written_later(tmp_path: Path, opened: Opened) -> None:
    history = opened("missing/history.db")
    history.belong({"ann": ("Vision",)})
    history.flush()
    (tmp_path / "missing").mkdir()
    history.flush()
    assert history.belonging().of("ann", "2026-W48") == ("Vision",)


def test_until_groups_are_known_nobody_counts_as_one_of_the_others(
    clock: Clock, opened: Opened
) -> None:
    history = opened(groups=("Vision",))
    hear(history, clock, 65, gpu(0, "ann"))
    assert history.group_totals() == {}
    history.belong({"ann": ("Vision", "no longer configured")})
    hear(history, clock, 60, gpu(0, "ann"))
    assert set(history.group_totals()["gpu17"]) == {"Vision"}


def test_groups_are_forgotten_with_the_last_use(clock: Clock, opened: Opened) -> None:
    history = opened(keep_use_days=7)
    history.belong({"ann": ("Vision",), "bob": ("Vision",)})
    hear(history, clock, 65, gpu(0, "ann"), gpu(1, "bob"))
    history.flush()
    for _ in range(3):
        clock.now += 7 * 86_400
        hear(history, clock, 65, gpu(0, "bob"))
        history.belong({"bob": (f"group of {clock.now:.0f}",)})
        history.flush()
    history._forget()
    history.flush()
    assert set(history.belonging().since) == {"bob"}
    assert [week for week, _ in history.belonging().since["bob"]] == ["2026-W50", "2026-W51"]
