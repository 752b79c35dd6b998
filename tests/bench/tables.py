"""Figures as tables for people: those of one run, and of two runs side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tests.bench.measure import Figure
from tests.bench.results import Circumstances, Results

WIDTH = 58
"""Letters for what was measured; a longer text pushes its own line to the right."""
HEAD = f"{'':<{WIDTH}} {'ours':>9} {'floor':>9} {'ratio':>6}  target"
_NOTHING = f"{'-':>9} {'-':>6}"


def row(figure: Figure) -> str:
    """One figure, in two lines; HEAD says what the columns are."""
    both = " ".join(_number(number, figure.unit) for number in (figure.ours, figure.floor))
    numbers = f"{both} {figure.ratio:>6.2f}"
    return f"{figure.what:<{WIDTH}} {numbers}  {figure.target}\n    floor: {figure.of_floor}"


def table(results: Results) -> str:
    """All figures of a run, and what failed."""
    lines = [circumstances(results.circumstances), "", HEAD]
    lines += [row(figure) for figures in results.figures.values() for figure in figures]
    lines += [f"FAILED {name}: {why}" for name, why in results.failed.items()]
    return "\n".join(lines)


def circumstances(c: Circumstances) -> str:
    """Revision, date and machine, in a line."""
    changed = "+" if c.revision.endswith("+") else ""
    cores = "1 core" if c.cores == 1 else f"{c.cores} cores"
    return f"{c.revision[:10]}{changed}, {c.date}, {c.cpu}, {cores}, {c.kernel}"


def compared(then: Results, now: Results) -> str:
    """Two runs side by side, row by row; last, the ratio now by the ratio then.

    Seconds compare on one machine only; ratios to the floor compare between machines, too.
    """
    lines = [
        f"then: {circumstances(then.circumstances)}",
        f"now:  {circumstances(now.circumstances)}",
        "",
        f"{'':<{WIDTH}} {'then':>9} {'ratio':>6} {'now':>9} {'ratio':>6} {'now/then':>8}",
    ]
    for what, before, after in _pairs(then, now):
        by = f"{after.ratio / before.ratio:>8.2f}" if before and after else f"{'-':>8}"
        lines.append(f"{what:<{WIDTH}} {_short(before)} {_short(after)} {by}")
    return "\n".join(lines)


def _pairs(then: Results, now: Results) -> Iterator[tuple[str, Figure | None, Figure | None]]:
    """Each figure of the measurements of `now`, in their order, with what it was then.

    Of what was not measured now, nothing is said: it was not asked for.
    """
    for name, figures in now.figures.items():
        before = _by_words(then.figures.get(name, ()))
        after = _by_words(figures)
        for what in (*after, *(what for what in before if what not in after)):
            yield what, before.get(what), after.get(what)


def _by_words(figures: Sequence[Figure]) -> dict[str, Figure]:
    return {figure.what: figure for figure in figures}


def _short(figure: Figure | None) -> str:
    return f"{_number(figure.ours, figure.unit)} {figure.ratio:>6.2f}" if figure else _NOTHING


def _number(number: float, unit: str) -> str:
    return f"{number:>{8 - len(unit)}.2f} {unit}"
