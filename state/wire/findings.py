"""What `lxc-gpu doctor` finds: many small checks, each of which looks and says what it means.

Checks only read. One that fails itself, or takes too long, is a finding as well: the doctor is
asked when something is broken. Standard library only.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, NamedTuple, TypeVar

from state import plain
from state.errors import LxcGpuError
from state.words import printable

C = TypeVar("C")
PATIENCE = 20.0
"""Seconds that all checks together may take; they run side by side."""


class Level(StrEnum):
    """How bad a finding is."""

    OK = "ok"
    NOTE = "note"
    """Works, but somebody should know."""
    WRONG = "wrong"
    """Something doesn't work because of it, or soon won't."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    level: Level
    area: str
    """One word: where in the machine."""
    text: str
    """What was seen and what it means, one or two short sentences."""
    hint: str = ""
    """What to type or do."""
    fault: str = ""
    """The message of the error that it tells of; other checks may meet the same one."""


Check = Callable[[C], Iterable[Finding]]
"""Looks at one thing. Yields or returns what it found; may raise whatever it likes."""


@dataclass(frozen=True)
class Area:
    """Makes the findings of one area."""

    name: str

    def ok(self, text: str) -> Finding:
        """It is as it should be."""
        return Finding(Level.OK, self.name, _printable(text))

    def note(self, text: str, hint: str = "") -> Finding:
        """It works, but somebody should know."""
        return Finding(Level.NOTE, self.name, _printable(text), _printable(hint))

    def wrong(self, text: str, hint: str = "") -> Finding:
        """It doesn't work."""
        return Finding(Level.WRONG, self.name, _printable(text), _printable(hint))

    def met(self, error: LxcGpuError, text: str = "", level: Level = Level.WRONG) -> Finding:
        """An error that the check met; a sysadmin reads its hint. `text`: if not its message."""
        hint = error.hint.removeprefix("Sysadmin: ")
        text = _printable(text or error.message)
        return Finding(level, self.name, text, _printable(hint), error.message)


def _printable(text: str) -> str:
    """Journals, directories and containers may say anything: nothing that moves a cursor."""
    return printable(text.replace("\n", " "))


_NO_THREAD = "Is this machine short of memory or of processes? `free -h`, `systemd-cgtop`"


class _Running(Generic[C]):
    """One check in a thread of its own, which is left behind if it hangs."""

    def __init__(self, check: Check[C], about: C) -> None:
        self.findings: list[Finding] = []
        self._check, self._about = check, about
        self._area = Area(check.__module__.rsplit(".", 1)[-1])
        self._words = check.__name__.strip("_").replace("_", " ")
        self._thread: threading.Thread | None = threading.Thread(target=self._run, daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:
            self._thread = None
            self.findings.append(self._failed(str(error), _NO_THREAD))

    def _run(self) -> None:
        try:
            for finding in self._check(self._about):
                self.findings.append(finding)
        except LxcGpuError as error:
            self.findings.append(self._failed(error.message, error.hint))
        except OSError as error:
            place = f"{error.filename}: " if error.filename else ""
            self.findings.append(self._failed(f"{place}{error.strerror or error}"))
        except Exception as error:
            self.findings.append(self._failed(f"a mistake of doctor's own: {error!r}"))

    def _failed(self, why: str, hint: str = "") -> Finding:
        return self._area.wrong(f"`{self._words}` can't be looked at: {why}", hint)

    def result(self, seconds: float, patience: float) -> tuple[Finding, ...]:
        """What was found within `seconds`, which are the rest of `patience`."""
        if self._thread is not None:
            self._thread.join(seconds)
        found = tuple(self.findings)
        if self._thread is None or not self._thread.is_alive():
            return found
        hint = "A disk or another machine that doesn't answer, most likely."
        late = f"`{self._words}` took longer than {patience:g} s and was left alone."
        return (*found, self._area.wrong(late, hint))


def examine(checks: Sequence[Check[C]], about: C, patience: float = PATIENCE) -> list[Finding]:
    """The findings of all checks, in their order. What an earlier check told isn't told again."""
    deadline = time.monotonic() + patience
    running = [_Running(check, about) for check in checks]
    found = list[Finding]()
    for each in running:
        told = {(f.level, f.fault) for f in found if f.fault}
        result = each.result(max(0.0, deadline - time.monotonic()), patience)
        found += [f for f in result if (f.level, f.fault) not in told]
    return found


def worst_last(findings: Iterable[Finding]) -> list[Finding]:
    """`findings` with what matters most where a person looks first: just above the prompt."""
    order = list(Level)
    return sorted(findings, key=lambda finding: order.index(finding.level))


def to_json(findings: Sequence[Finding]) -> str:
    """One line of JSON."""
    wrong = any(finding.level is Level.WRONG for finding in findings)
    facts = {"healthy": not wrong, "findings": plain.to_plain(findings)}
    return json.dumps(facts, ensure_ascii=False)


class _Said(NamedTuple):
    findings: tuple[Finding, ...]


def from_json(text: str) -> list[Finding]:
    """The findings that `to_json` wrote. NotPlainError if it isn't that."""
    return list(plain.from_json(_Said, text, newer=True).findings)
