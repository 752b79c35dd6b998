"""Which tests run, where and when: the longest begin, so that all workers end together."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from state.errors import LxcGpuError
from tests import durations, untouched

TESTS = Path(__file__).parent
FIRST = ("vm", "lab")
"""Rooms whose tests begin; they make machines, which only root can."""

# A machine is as fast as it is.
hypothesis.settings.register_profile(
    "ours", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("ours")


def pytest_addoption(parser: pytest.Parser) -> None:
    """`setup/test --all`."""
    about = "also what passed with the same files before, and matrices as a whole"
    parser.addoption("--all", action="store_true", help=about)


def pytest_configure(config: pytest.Config) -> None:
    """The run is recorded by who sees all of it, which is no worker."""
    config.addinivalue_line("markers", "matrix: one of many alike, which run under --all only")
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Recording(), "recording")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The virtual machine, then the lab, then all the rest.

    The tests of the lab itself begin: they install everything again, which starts rounds that
    the other tests of the lab have to do without.
    """

    def place(item: pytest.Item) -> tuple[int, bool]:
        rank = FIRST.index(room(item.nodeid)) if room(item.nodeid) in FIRST else len(FIRST)
        return rank, durations.file_of(item.nodeid) != untouched.LAB_TESTS

    items.sort(key=place)
    skipped = {
        "machines need root: sudo setup/test": os.geteuid() != 0
        and [item for item in items if room(item.nodeid) in FIRST],
        "one of a matrix: setup/test --all": not config.option.all
        and [item for item in items if item.get_closest_marker("matrix")],
        "passed with the same files before: setup/test --all": _believed(config)
        and [item for item in items if _of_the_lab_alone(item)],
    }
    for reason, which in skipped.items():
        for item in which or ():
            item.add_marker(pytest.mark.skip(reason=reason))


def _of_the_lab_alone(item: pytest.Item) -> bool:
    """Whether a test is about the lab, whatever is set up on its machines."""
    lab = durations.file_of(item.nodeid) == untouched.LAB_TESTS
    return lab and untouched.ALWAYS not in item.nodeid


def _believed(config: pytest.Config) -> bool:
    """Whether the lab's own tests may be left out."""
    named = any(Path(untouched.LAB_TESTS).name in argument for argument in config.args)
    return not config.option.all and not named and untouched.passed_before()


def room(name: str) -> str:
    """The folder of tests that a test, a file of tests or the folder itself is in."""
    return name.split("/")[1]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_makereport(call: pytest.CallInfo[None]) -> None:
    """An error of ours shows its details, too, which no person's screen has."""
    error = call.excinfo.value if call.excinfo else None
    if isinstance(error, LxcGpuError) and error.details:
        error.add_note(error.details)


class Recording:
    """Keeps what a run's files took, and that the lab's own tests passed."""

    def __init__(self) -> None:
        self._recorder = durations.Recorder()
        self._files = untouched.digest()

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: Any, ids: list[str]) -> None:
        """What a worker found, which is what all of them did."""
        self._recorder.expect(ids)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Without workers: what was found."""
        if session.items:
            self._recorder.expect(item.nodeid for item in session.items)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A part of a test has ended."""
        self._recorder.note(report.nodeid, report.when, report.duration, report.outcome)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Keep what is of whole files: no test of theirs was left out by the command line."""
        option = session.config.option
        chosen = ("keyword", "markexpr", "lf", "stepwise", "deselect", "collectonly")
        some = any("::" in arg for arg in session.config.args)
        if some or any(getattr(option, name, None) for name in chosen):
            return
        self._recorder.keep()
        if untouched.LAB_TESTS in self._recorder.whole() - self._recorder.failed:
            untouched.note_passed(self._files)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A file is one worker's; all of tests/vm, too: there is one virtual machine for them.

    The worker that has it goes on with what needs no lab, so that it need not make one besides.
    """
    from xdist.scheduler import LoadFileScheduling

    seconds = durations.known()

    class Scheduling(LoadFileScheduling):  # type: ignore[misc] # xdist has no types
        def _split_scope(self, nodeid: str) -> str:
            return "tests/vm" if room(nodeid) == "vm" else super()._split_scope(nodeid)

        def _assign_work_unit(self, node: Any) -> None:
            likes_labs = "tests/vm" not in self.assigned_work.get(node, ())

            def urgency(unit: str) -> tuple[bool, bool, bool, float]:
                likes = (room(unit) == "lab") == likes_labs
                begins = unit == untouched.LAB_TESTS
                return room(unit) == "vm", likes, begins, durations.expected(unit, seconds)

            self.workqueue.move_to_end(max(self.workqueue, key=urgency), last=False)
            super()._assign_work_unit(node)

    return Scheduling(config, log)
