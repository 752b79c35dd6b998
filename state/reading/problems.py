"""What is wrong with a state, and where: one line for each, with the file and its line."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass

from state.errors import LxcGpuError

Place = tuple[str | int, ...]
"""Where in a file: the fields' names and the list entries' numbers from the top, () for all."""

SHOWN = 50
"""How many problems an error's message lists; the rest are counted."""


@dataclass(frozen=True, order=True)
class Problem:
    """One thing that is wrong, printed as `users/lqchen.yaml:4: port 22031 is also that of ...`.

    Lines count from 1; 0 when the file as a whole, or its absence, is the problem.
    """

    path: str
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.message}" if self.line else self._whole()

    def _whole(self) -> str:
        return f"{self.path}: {self.message}"


@dataclass(frozen=True)
class BrokenRule:
    """One broken rule, by file and field; `state.reading.load` finds the line."""

    path: str
    place: Place
    message: str


def repeated(path: str, place: Place, values: Iterable[Hashable]) -> Iterator[BrokenRule]:
    """A finding for each entry of the list at `place` that is there already."""
    seen = set[Hashable]()
    for number, value in enumerate(values):
        if value in seen:
            yield BrokenRule(path, (*place, number), f"{value} is there twice")
        seen.add(value)


class StateInvalidError(LxcGpuError):
    """A state that breaks the rules. `problems` are all of them, in the order of the files."""

    def __init__(
        self, problems: Iterable[Problem], code: str = "state-invalid", hint: str = ""
    ) -> None:
        self.problems = tuple(sorted(set(problems)))
        lines = [str(problem) for problem in self.problems[:SHOWN]]
        if len(self.problems) > SHOWN:
            lines.append(f"... and {len(self.problems) - SHOWN} more")
        count = "a problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        super().__init__(
            code,
            "\n".join([f"The state has {count}:", *lines]),
            hint or "Correct the files named; `lxc-gpu check` looks at them without changing them.",
        )


def joined(names: Iterable[str]) -> str:
    """`names` in a sentence: a, b and c."""
    *head, last = names
    return f"{', '.join(head)} and {last}" if head else last
