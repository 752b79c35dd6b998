"""Plots: what was heard as steps, what wasn't as nothing."""

from __future__ import annotations

from webui.monitor.past.records import Point
from webui.monitor.shown.plots import lately, plot


def test_each_step_is_as_wide_as_it_lasted() -> None:
    assert plot("CPU", [0, 50, 50, 100]).path == "M0 110V100H1V50H3V0H4V110z"


def test_a_gap_stays_a_gap() -> None:
    drawn = plot("CPU", [None, 10, None, None, 30])
    assert drawn.path == "M1 110V90H2V110zM4 110V70H5V110z"
    assert drawn.steps == 5
    assert drawn.words == "20 % on average, 30 % at most; nothing was heard for 60 % of the time"


def test_nothing_heard_is_no_drawing() -> None:
    assert plot("CPU", [None] * 3).path == ""
    assert plot("CPU", []).words == "nothing was heard"
    assert lately("Last hour", ()).plots == ()


def test_values_beyond_are_drawn_at_the_edge() -> None:
    assert plot("CPU", [-5, 700]).path == "M0 110V100H1V0H2V110z"


def test_a_server_without_gpus_has_a_plot_of_its_cpu_only() -> None:
    points = [Point(0.0, cpu=5.0, memory=1.0), Point(60.0)]
    assert [each.title for each in lately("Last hour", points).plots] == ["CPU"]
    points = [Point(0.0, cpu=5.0, gpu=0.0, held=0.0)]
    assert len(lately("Last hour", points).plots) == 3
