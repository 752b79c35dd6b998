"""Small plots of the last hour and the last day. Pure.

Each step is as wide as it lasted and as high as its mean. Where nothing was heard there is nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from webui.monitor.past.records import Point

BELOW = 110
"""Where a drawing is closed: below what is seen of it. 0 is on top, 100 on the ground."""


@dataclass(frozen=True)
class Plot:
    """One plot, as the path of an SVG that is 100 units high."""

    title: str
    steps: int
    """Units of its width."""
    path: str
    words: str
    """The same for who can't see it."""


@dataclass(frozen=True)
class Lately:
    """One stretch of time: a plot each of CPU, GPUs and GPUs held."""

    title: str
    plots: tuple[Plot, ...]


def lately(title: str, points: Sequence[Point]) -> Lately:
    """What to draw of `points`; a plot of which nothing is known is left out."""
    kinds: tuple[tuple[str, Callable[[Point], float | None]], ...] = (
        ("CPU", lambda point: point.cpu),
        ("GPUs at work", lambda point: point.gpu),
        ("GPUs held", lambda point: point.held),
    )
    drawn = (plot(name, [of(point) for point in points]) for name, of in kinds)
    return Lately(title, tuple(each for each in drawn if each.path))


def plot(title: str, values: Sequence[float | None]) -> Plot:
    """`values` in percent, one for each step."""
    return Plot(
        title=title,
        steps=len(values),
        path="".join(f"M{at} {BELOW}{_steps(at, run)}V{BELOW}z" for at, run in _runs(values)),
        words=_words(values),
    )


def _runs(values: Iterable[float | None]) -> Iterator[tuple[int, list[float]]]:
    """What stands between two gaps: where it begins, and its values."""
    for known, run in groupby(enumerate(values), key=lambda pair: pair[1] is not None):
        if known:
            pairs = list(run)
            yield pairs[0][0], [value for _, value in pairs if value is not None]


def _steps(at: int, run: Sequence[float]) -> str:
    """Up to the first value, along it, and so on; equal neighbours are one step."""
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
    text = f"{mean:.0f} % in the mean, {max(known):.0f} % at most"
    gap = 100 * (len(values) - len(known)) / len(values)
    return f"{text}; nothing was heard for {gap:.0f} % of the time" if gap >= 1 else text
