"""How long each test file took: kept by every run, so that the next one begins with the longest.

`.durations.json`, which Git ignores, has what this checkout's last runs took; tests/durations.json
what a fresh clone begins with. `python -m tests.durations` takes the former into the latter.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[1]
COMMITTED = ROOT / "tests/durations.json"
OWN = ROOT / ".durations.json"
UNKNOWN = {"vm": 600.0, "lab": 60.0}
"""Seconds that are assumed, by room, for what nobody timed; other rooms have short files."""
SHORT = 1.0
"""Seconds; shorter files are all alike, and not committed."""
LONGEST = 10


def known() -> dict[str, float]:
    """Seconds by test file, this checkout's own before the committed ones."""
    return {**_read(COMMITTED), **_read(OWN)}


def expected(unit: str, seconds: Mapping[str, float]) -> float:
    """Seconds that a test file, or all of a folder's, will take. Pure."""
    if unit in seconds:
        return seconds[unit]
    below = [took for file, took in seconds.items() if file.startswith(f"{unit}/")]
    return sum(below) if below else UNKNOWN.get(unit.split("/")[1], SHORT)


@dataclass
class Recorder:
    """What is known of a run's test files: how long, how many tests, whether all went well."""

    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    """With what the tests set up and take down."""
    left: Counter[str] = field(default_factory=Counter)
    """Tests that haven't ended."""
    ran: set[str] = field(default_factory=set)
    """Files of which a test ran, and was no skip."""
    failed: set[str] = field(default_factory=set)

    def expect(self, tests: Iterable[str]) -> None:
        """Which tests the run has, by their full names."""
        self.left = Counter(map(file_of, tests))

    def note(self, test: str, part: str, seconds: float, outcome: str) -> None:
        """One part of a test: its setup, call or teardown."""
        file = file_of(test)
        self.seconds[file] += seconds
        if part == "teardown":
            self.left[file] -= 1
        elif part == "call":
            self.ran.add(file)
        if outcome == "failed":
            self.failed.add(file)

    def whole(self) -> set[str]:
        """The files whose tests have all ended, and not all as skips."""
        return {file for file in self.ran if self.left[file] == 0}

    def keep(self) -> None:
        """Write down what whole files took."""
        took = {file: round(self.seconds[file], 1) for file in self.whole()}
        with suppress(OSError):  # somebody else's checkout
            _write(OWN, {**_read(OWN), **took})


def file_of(test: str) -> str:
    """The file that a test stands in. Pure."""
    return test.partition("::")[0]


def _read(path: Path) -> dict[str, float]:
    try:
        return {name: float(took) for name, took in json.loads(path.read_text()).items()}
    except (OSError, ValueError):
        return {}


def _write(path: Path, seconds: Mapping[str, float]) -> None:
    path.write_text(json.dumps(dict(sorted(seconds.items())), indent=1) + "\n")


def main() -> None:
    """Take this checkout's durations into the committed table; print the longest."""
    there = {name: took for name, took in known().items() if (ROOT / name).exists()}
    _write(COMMITTED, {name: round(took) for name, took in there.items() if took >= SHORT})
    for name, took in sorted(there.items(), key=lambda each: -each[1])[:LONGEST]:
        print(f"{took:7.1f} s  {name}")
    print(f"{sum(there.values()):7.1f} s  in {len(there)} files")


if __name__ == "__main__":
    main()
