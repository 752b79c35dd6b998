"""What setup/bench is made of besides measuring: names, results as a file, tables."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from state.errors import LxcGpuError

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "setup"))
from tests.bench.catalogue import CATALOGUE, Here, choose, listing
from tests.bench.circumstances import cpu_model
from tests.bench.measure import Figure
from tests.bench.results import Circumstances, Results, read, write
from tests.bench.runner import Runner
from tests.bench.tables import compared, table

THEN = Circumstances("1234567890abcdef", "2026-01-01T00:00:00+00:00", "Old CPU", 1, "6.1")
NOW = Circumstances("fedcba0987654321+", "2026-02-02T00:00:00+00:00", "New CPU", 2, "6.12")


def figure(what: str, ours: float, floor: float) -> Figure:
    return Figure(what, ours, floor, "the bare thing", "within 2")


def test_every_measurement_has_a_name_of_its_own_and_is_listed() -> None:
    names = [each.name for each in CATALOGUE]
    assert len(set(names)) == len(names)
    assert [line.split()[0] for line in listing().splitlines()] == names


def test_names_choose_in_the_catalogue_s_order_and_none_chooses_all() -> None:
    chosen = choose(["walk", "connect", "walk"])
    assert [each.name for each in chosen] == ["connect", "walk"]
    assert choose([]) == CATALOGUE


def test_a_name_that_there_is_not_is_answered_with_the_list() -> None:
    with pytest.raises(LxcGpuError, match="no measurement rounds, frame") as raised:
        choose(["rounds", "walk", "frame"])
    assert listing() in raised.value.hint


def test_results_are_the_same_after_a_file(tmp_path: Path) -> None:
    results = Results(NOW).with_figure("walk", figure("verify", 0.9, 18.0))
    results = results.with_figure("walk", figure("verify more", 1.0, 0.1))
    results = results.with_failure("connect", "no route")
    write(tmp_path / "new" / "results.json", results)
    assert read(tmp_path / "new" / "results.json") == results


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 0}', '{"format": 1, "figures": []}'])
def test_another_file_is_refused(text: str, tmp_path: Path) -> None:
    file = tmp_path / "other.json"
    file.write_text(text)
    with pytest.raises(LxcGpuError, match="holds no results"):
        read(file)
    with pytest.raises(LxcGpuError, match="can't be read"):
        read(tmp_path / "missing.json")


def test_a_table_shows_ratios_circumstances_and_failures() -> None:
    results = Results(NOW).with_figure("walk", figure("verify", 3.0, 1.5))
    shown = table(results.with_failure("connect", "no route")).splitlines()
    assert shown[0] == "fedcba0987+, 2026-02-02T00:00:00+00:00, New CPU, 2 cores, 6.12"
    assert shown[3].split() == ["verify", "3.00", "s", "1.50", "s", "2.00", "within", "2"]
    assert shown[4:] == ["    floor: the bare thing", "FAILED connect: no route"]


def test_two_runs_are_compared_by_their_ratios() -> None:
    then = Results(THEN).with_figure("walk", figure("verify", 2.0, 1.0))
    then = then.with_figure("walk", figure("gone", 2.0, 1.0))
    then = then.with_figure("connect", figure("not asked for", 2.0, 1.0))
    now = Results(NOW).with_figure("walk", figure("verify", 3.0, 3.0))
    now = now.with_figure("walk", figure("new", 1.0, 4.0))
    lines = compared(then, now).splitlines()
    assert lines[0].startswith("then: 1234567890, ")
    assert lines[1].startswith("now:  fedcba0987+, ")
    assert [line.split() for line in lines[4:]] == [
        ["verify", "2.00", "s", "2.00", "3.00", "s", "1.00", "0.50"],
        ["new", "-", "-", "1.00", "s", "0.25", "-"],
        ["gone", "2.00", "s", "2.00", "-", "-", "-"],
    ]


def test_a_measurement_that_fails_stops_no_other(capsys: pytest.CaptureFixture[str]) -> None:
    def breaks() -> Iterator[Figure]:
        yield figure("the first half", 1.0, 1.0)
        raise LxcGpuError("broken", "It broke.", "Mend it.")

    kept: list[Results] = []
    fine = figure("fine", 1.0, 1.0)
    chosen = (Here("breaks", "", breaks), Here("fine", "", lambda: [fine]))
    runner = Runner(chosen, kept.append)
    runner.run()
    assert runner.results.failed == {"breaks": "It broke."}
    assert list(runner.results.figures) == ["breaks", "fine"]
    assert [len(each.figures) + len(each.failed) for each in kept] == [1, 2, 3]
    said = capsys.readouterr().out
    assert "FAILED breaks: It broke.\nMend it." in said
    assert said.index("[1/2] breaks") < said.index("[2/2] fine") < said.index("fine  ")


def test_the_processor_s_model_is_found_where_the_kernel_names_one() -> None:
    assert cpu_model("processor\t: 0\nmodel name\t: A CPU @ 2 GHz\n" * 2) == "A CPU @ 2 GHz"
    assert cpu_model("processor\t: 0\n") == ""
