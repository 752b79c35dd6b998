"""The history: sums, weeks, plots, gaps, and what is forgotten."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import pytest

from state.errors import LxcGpuError
from state.wire.server_load import UserLoad
from tests.unit.webui.monitor.past.histories import MONDAY, Clock, Opened, ann, asked, hear
from tests.unit.webui.monitor.small_loads import GIB, gpu, load
from webui.monitor.past import ledger
from webui.monitor.past.history import History


def test_hours_of_a_week(history: History, clock: Clock) -> None:
    users = (UserLoad("ann", 4.0, 2 * GIB, 1),)
    hear(history, clock, 3605, gpu(0, "ann", busy=50.0), gpu(1), users=users)
    history.flush()
    used = ann(history, "2026-W48")
    assert (used.server, used.week) == ("gpu17", "2026-W48")
    assert used.gpu_hours == pytest.approx(1)
    assert used.gpu_busy_hours == pytest.approx(0.5)
    assert used.gpu_memory_gib_hours == pytest.approx(10)
    assert used.memory_gib_hours == pytest.approx(2)
    assert used.cpu_hours == pytest.approx(4)
    (heard,) = history.heard("2026-W48")
    assert heard.hours == pytest.approx(1)
    assert heard.gpu_hours == pytest.approx(2)
    assert history.weeks() == ("2026-W48",)
    assert history.used_by("ann") == (used,)
    assert history.used_by("bob") == ()


def test_a_week_ends_at_midnight_utc(history: History, clock: Clock) -> None:
    clock.now = MONDAY - 60
    hear(history, clock, 120, gpu(0, "ann"))
    history.flush()
    assert history.weeks() == ("2026-W48", "2026-W47")
    assert ann(history, "2026-W47").gpu_hours * 3600 == pytest.approx(50)
    assert ann(history, "2026-W48").gpu_hours * 3600 == pytest.approx(65)
    assert [used.week for used in history.used_by("ann", weeks=1)] == ["2026-W48"]


def test_weeks_go_on_over_a_year_s_end(history: History, clock: Clock) -> None:
    clock.now = MONDAY + 6 * 7 * 86_400 - 60  # 2027-01-03, a Sunday, 23:59 UTC
    hear(history, clock, 120, gpu(0, "ann"))
    history.flush()
    assert history.weeks() == ("2027-W01", "2026-W53")
    assert ann(history, "2026-W53").gpu_hours * 3600 == pytest.approx(50)


def test_no_week_is_longer_where_clocks_are_put_back(
    history: History, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        clock.now = MONDAY - 5 * 7 * 86_400 - 120  # before the week that ends on 2026-10-25
        for _ in range(9 * 24 * 60):
            clock.now += 60
            history.note("gpu17", load("gpu17", gpu(0, "ann"), interval=60.0), clock.now)
        history.flush()
        assert history.heard("2026-W43")[0].hours == pytest.approx(168)
        assert ann(history, "2026-W43").gpu_hours == pytest.approx(168)
    finally:
        monkeypatch.undo()
        time.tzset()


def test_lines_are_read_week_by_week_and_never_in_part(
    history: History, clock: Clock, tmp_path: Path
) -> None:
    clock.now = MONDAY - 60
    hear(history, clock, 120, gpu(0, "ann"))
    history.flush()
    lines = history.lines(history.weeks())
    assert [each.week for each in next(lines)] == ["2026-W48"]
    (tmp_path / "history.db").rename(tmp_path / "elsewhere.db")
    with pytest.raises(LxcGpuError):
        next(lines)


def test_an_outage_is_a_gap_and_no_zero(history: History, clock: Clock) -> None:
    hear(history, clock, 300, gpu(0, "ann"))
    clock.now += 600
    hear(history, clock, 300, gpu(0, "ann"))
    history.flush()
    points = history.points("gpu17", clock.now - 1200, 60)
    assert len(points) == 20
    assert [point.cpu for point in points[-4:]] == pytest.approx([20] * 4)
    assert all(point.cpu is None and point.held is None for point in points[6:14])
    assert ann(history, "2026-W48").gpu_hours * 3600 == pytest.approx(590)


@pytest.mark.parametrize(("since", "step", "count"), [(3600, 60, 60), (86_400, 600, 144)])
def test_a_plot_has_a_point_for_each_step(
    history: History, clock: Clock, since: int, step: int, count: int
) -> None:
    clock.now += 7.5
    hear(history, clock, 60, gpu(0, "ann"))
    for server in ("gpu17", "nobody"):
        points = history.points(server, clock.now - since, step)
        assert len(points) == count
        assert {b.at - a.at for a, b in itertools.pairwise(points)} == {step}
    last = history.points("gpu17", clock.now - since, step)[-1]
    assert [last.cpu, last.memory] == pytest.approx([20, 25])
    assert [last.gpu, last.held] == pytest.approx([50, 100])


def test_plots_go_back_two_days_and_no_further(history: History, clock: Clock) -> None:
    for _ in range(60):
        hear(history, clock, 60, gpu(0, "ann"))
        clock.now += 3540
    points = history.points("gpu17", clock.now - 40 * 86_400, 60)
    assert len(points) == 2880
    history.flush()
    hours = history.points("gpu17", clock.now - 2 * 86_400, 3600)
    assert [point.cpu is None for point in hours] == [False] * 47 + [True]
    assert history.points("gpu17", clock.now - 3 * 86_400, 3600)[0].cpu is None


def test_a_clock_that_was_years_ahead_does_no_lasting_harm(
    history: History, clock: Clock, opened: Opened
) -> None:
    hear(history, clock, 65, gpu(0, "ann"))
    clock.now += 4 * 365 * 86_400
    hear(history, clock, 65, gpu(0, "ann"))
    history.flush()
    clock.now = MONDAY + 300
    hear(history, clock, 65, gpu(0, "ann"))
    history.flush()
    again = opened()
    again.flush()
    for each in (history, again):
        assert each.points("gpu17", clock.now - 60, 60)[-1].cpu == pytest.approx(20)
        assert each.weeks() == ("2026-W48",)
    hear(again, clock, 65, gpu(0, "ann"))
    assert again.points("gpu17", clock.now - 60, 60)[-1].cpu == pytest.approx(20)


def test_what_is_old_is_deleted_and_no_week_in_part(
    tmp_path: Path, clock: Clock, opened: Opened
) -> None:
    history = opened(keep_use_days=10)
    for _ in range(21):
        hear(history, clock, 60, gpu(0, "ann"))
        clock.now += 86_400 - 60
    history.flush()
    clock.now += 2 * 86_400
    history._forget()
    history.flush()
    assert history.weeks() == ("2026-W50", "2026-W49")
    assert ann(history, "2026-W49").gpu_hours * 3600 == pytest.approx(7 * 55)
    assert asked(tmp_path / "history.db", "SELECT count(*) FROM minutes") == [(0,)]


def test_a_server_that_makes_names_up_fills_nothing(
    history: History, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "MOST_USERS", 10)
    for n in range(100):
        hear(history, clock, 10, users=(UserLoad(f"user{n}", 1.0, 1, 1),))
    hear(history, clock, 60, gpu(0, "ann"), server="gpu18")
    history.flush()
    assert len([u for u in history.used("2026-W48") if u.server == "gpu17"]) == 10
    assert len(history.totals()["gpu17"]) == 10
    assert ann(history, "2026-W48").server == "gpu18"


@pytest.mark.parametrize("week", ["", "2026-W99", "2026-48", "../../x", "9999-W53", "0000-W01"])
def test_no_week(history: History, week: str) -> None:
    history.flush()
    assert history.used(week) == () == history.heard(week)


def test_names_are_data(history: History, clock: Clock) -> None:
    name = "Robert'); DROP TABLE use;--"
    hear(history, clock, 60, gpu(0, name))
    history.flush()
    (used,) = history.used("2026-W48")
    assert used.user == name
