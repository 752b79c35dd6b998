"""Small plots of the last hour and the last day. Pure.

Each step is as wide as its time and as high as its mean. Gaps are left empty.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from webui.monitor.past.records import Point

BELOW = 110
"""The height at which a path is closed, below the visible part. 0 is the top, 100 the ground."""


@dataclass(frozen=True)
class Plot:
    """One plot, as the path of an SVG that is 100 units high."""

    title: str
    steps: int
    """The width in units."""
    path: str
    words: str
    """A description for people who can't see it."""


@dataclass(frozen=True)
class Lately:
    """One stretch of time, with plots of CPU, GPUs and GPUs held."""

    title: str
    plots: tuple[Plot, ...]


def lately(title: str, points: Sequence[Point]) -> Lately:
    """The plots of `points`. Plots without any known value are left out."""
    kinds: tuple[tuple[str, Callable[[Point], float | None]], ...] = (
        ("CPU", lambda point: point.cpu),
        ("GPUs at work", lambda point: point.gpu),
        ("GPUs held", lambda point: point.held),
    )
    drawn = (plot(name, [of(point) for point in points]) for name, of in kinds)
    return Lately(title, tuple(each for each in drawn if each.path))


def plot(title: str, values: Sequence[float | None]) -> Plot:
    """The plot of `values`, which are in percent, one for each step."""
    return Plot(
        title=title,
        steps=len(values),
        path="".join(f"M{at} {BELOW}{_steps(at, run)}V{BELOW}z" for at, run in _runs(values)),
        words=_words(values),
    )


def _runs(values: Iterable[float | None]) -> Iterator[tuple[int, list[float]]]:
    """The stretches between gaps: the first step, and the values."""
    for known, run in groupby(enumerate(values), key=lambda pair: pair[1] is not None):
        if known:
            pairs = list(run)
            yield pairs[0][0], [value for _, value in pairs if value is not None]


def _steps(at: int, run: Sequence[float]) -> str:
    """The path along the values. Equal neighbours are joined."""
    drawn, end = [], at
    for height, same in groupby(run, key=_height):
        end += len(list(same))
        drawn.append(f"V{height}H{end}")
    return "".join(drawn)


def _height(value: float) -> int:
    return 100 - round(min(100.0, max(0.0, value)))


def _words(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "nothing was heard"
    mean = sum(known) / len(known)
    text = f"{mean:.0f} % on average, {max(known):.0f} % at most"
    gap = 100 * (len(values) - len(known)) / len(values)
    return f"{text}; nothing was heard for {gap:.0f} % of the time" if gap >= 1 else text
