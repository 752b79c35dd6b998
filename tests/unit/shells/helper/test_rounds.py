"""A round that the root helper is asked for: its child, in which a stand-in of the round runs."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from reconciler.host import places
from reconciler.host.status import write_status
from shells.helper import rounds
from state.command import environment
from state.wire.messages import LONGEST_NEWS, Report

ROOT = Path(__file__).parents[4]
ASKS = """
import os, sys
from types import SimpleNamespace
sys.path.insert(0, sys.argv[1])
from shells.helper.rounds import reconcile
from state.errors import LxcGpuError
from state.wire import messages

def main(argv, news):
    {}

sys.modules["shells.commands.round"] = SimpleNamespace(main=main)
try:
    reconcile(lambda progress: print(progress.text))
except LxcGpuError as error:
    print(error.code, error.message)
"""


def said(*lines: str, given: dict[str, str] | None = None) -> list[str]:
    """What who asks for a round reads that does this, in a helper that has this environment."""
    program = ASKS.format("\n    ".join(lines))
    words = [sys.executable, "-c", program, str(ROOT)]
    done = subprocess.run(words, capture_output=True, text=True, check=True, env=given)
    return done.stdout.splitlines()


@pytest.mark.parametrize("given", [{}, {"TZ": "Asia/Tokyo", "PATH": "/", "LANG": "de_DE"}])
def test_its_environment_is_that_of_all_our_programs(given: dict[str, str]) -> None:
    tells = "print(messages.encode(messages.Progress(repr(sorted(os.environ.items())))), end='')"
    known = {**given, "HOME": "/root"}
    heard, _ = said(tells, "sys.stdout.flush()", given=known)
    assert heard == repr(sorted({**environment(), "HOME": "/root"}.items()))


def test_without_packages_it_says_what_to_run() -> None:
    (heard,) = said("import git_of_another_python")
    assert heard.startswith("no-packages The Python package git_of_another_python is missing")


def test_who_asked_for_one_that_dies_reads_that() -> None:
    (heard,) = said("raise SystemError")
    assert heard.startswith("round-died ")


def _given(*chunks: bytes, closed: bool = True) -> bytes:
    """What the root helper takes of these."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 1 << 20)
    for chunk in chunks:
        os.write(writer, chunk)
    if closed:
        os.close(writer)
    try:
        return rounds._whole(reader)
    finally:
        os.close(reader)
        if not closed:
            os.close(writer)


def test_news_are_taken_whole_or_not_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "PATIENCE", 0.2)
    longest = bytes(LONGEST_NEWS - 4)
    assert _given(b"some", longest) == b"some" + longest
    assert _given() == b""
    assert _given(bytes(LONGEST_NEWS + 1)) == b"", "too long"
    assert _given(b"some", closed=False) == b"", "who sends no end doesn't hold it up"


def test_a_round_that_took_news_is_no_answer_to_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "STATUS", tmp_path / "status.json")
    report = Report("gpu17", "abc", finished=100.0, seconds=1.0)
    for fetched in (True, False):
        write_status(report._replace(fetched=fetched))
        found = rounds._of_round_since(50.0)
        assert (found is not None) is fetched
