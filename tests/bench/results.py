"""The results of one run, as a file to compare with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from state.errors import LxcGpuError
from state.files import write_file
from tests.bench.measure import Figure

FORMAT = 1


@dataclass(frozen=True)
class Circumstances:
    """What was measured, when, and on which machine."""

    revision: str
    """The checkout's, with a `+` if files differed from it."""
    date: str
    """ISO 8601, with the zone."""
    cpu: str
    """The model, as the kernel names it."""
    cores: int
    kernel: str


@dataclass(frozen=True)
class Results:
    """Figures by the name of their measurement, and why a measurement failed."""

    circumstances: Circumstances
    figures: Mapping[str, tuple[Figure, ...]] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)

    def with_figure(self, name: str, figure: Figure) -> Results:
        """These, and one more figure of the measurement `name`."""
        more = (*self.figures.get(name, ()), figure)
        return replace(self, figures={**self.figures, name: more})

    def with_failure(self, name: str, why: str) -> Results:
        """These, and that the measurement `name` failed."""
        return replace(self, failed={**self.failed, name: why})


def to_json(results: Results) -> str:
    """The text of the file."""
    return json.dumps({"format": FORMAT, **asdict(results)}, indent=2, ensure_ascii=False) + "\n"


def from_json(text: str) -> Results:
    """The results in a file's text. ValueError, KeyError or TypeError if it holds none."""
    fields = json.loads(text)
    if fields["format"] != FORMAT:
        raise ValueError(fields["format"])
    figures = {
        str(name): tuple(Figure(**each) for each in rows)
        for name, rows in fields["figures"].items()
    }
    return Results(Circumstances(**fields["circumstances"]), figures, dict(fields["failed"]))


def write(path: Path, results: Results) -> None:
    """Write the file; its folder is made if it isn't there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, to_json(results))


def read(path: Path) -> Results:
    """The results in a file. LxcGpuError if it can't be read or holds none."""
    try:
        return from_json(path.read_text("utf-8"))
    except OSError as error:
        raise LxcGpuError("bench-file", f"{path} can't be read: {error.strerror}.") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise LxcGpuError(
            "bench-file",
            f"{path} holds no results of setup/bench, or those of another version.",
            "Measure again, and keep the results: setup/bench --json FILE",
        ) from error
