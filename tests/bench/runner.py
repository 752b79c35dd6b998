"""One measurement after the other: each figure is shown at once, and a failure stops no other."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from laboratory import lifecycle
from laboratory.demo.play import play
from laboratory.hosts import Lab
from laboratory.layout import places
from laboratory.progress import ProgressLines

from state.errors import LxcGpuError
from tests.bench import quiet
from tests.bench.catalogue import Here, InLab, Measurement
from tests.bench.circumstances import circumstances
from tests.bench.measure import Figure
from tests.bench.results import Results
from tests.bench.tables import HEAD, row

LAB = "bench"
"""The lab's name: .lab-bench."""


class Runner:
    """Takes measurements; `keep` gets all results so far whenever there are more."""

    def __init__(self, chosen: Sequence[Measurement], keep: Callable[[Results], None]) -> None:
        self._chosen = chosen
        self._keep = keep
        self._begun = 0
        self.results = Results(circumstances())

    def run(self) -> None:
        """All that were chosen: those in a lab first, the others once it is gone.

        LxcGpuError if there is no lab to measure in.
        """
        in_lab = [each for each in self._chosen if isinstance(each, InLab)]
        if in_lab:
            with _lab() as lab:
                for each in in_lab:
                    self._take(each, lambda each=each: _in_quiet(each, lab))  # type: ignore[misc]
        for here in self._chosen:
            if isinstance(here, Here):
                self._take(here, here.take)

    def _take(self, measurement: Measurement, take: Callable[[], Iterable[Figure]]) -> None:
        self._begun += 1
        name, begun = measurement.name, time.monotonic()
        place = f"{self._begun}/{len(self._chosen)}"
        print(f"\n[{place}] {name}: {measurement.says} ...\n{HEAD}", flush=True)
        try:
            for figure in take():
                self._note(self.results.with_figure(name, figure))
                print(row(figure), flush=True)
        except Exception as error:  # whatever it is, the others are measured
            self._note(self.results.with_failure(name, _first_line(error)))
            print(f"FAILED {name}: {_in_full(error)}", flush=True)
        print(f"({time.monotonic() - begun:.0f} s)", flush=True)

    def _note(self, results: Results) -> None:
        self.results = results
        self._keep(results)


@contextmanager
def _lab() -> Iterator[Lab]:
    """A lab of its own in which the story was played; it is removed afterwards."""
    lab = Lab(places(LAB))
    try:
        play(lab)
        yield lab
    finally:
        with ProgressLines() as progress:
            lifecycle.down(lab, progress)


def _in_quiet(measurement: InLab, lab: Lab) -> Iterable[Figure]:
    quiet.settle(lab)
    yield from measurement.take(lab)


def _first_line(error: Exception) -> str:
    words = error.message if isinstance(error, LxcGpuError) else f"{type(error).__name__}: {error}"
    return words.strip().splitlines()[0]


def _in_full(error: Exception) -> str:
    if isinstance(error, LxcGpuError):
        return f"{error}\n{error.details}".strip()
    return "".join(traceback.format_exception(error)).strip()
