"""How findings look: plain in a pipe, narrow and coloured on a terminal."""

from __future__ import annotations

import io
import sys

import pytest

from shells.commands.doctor import show
from shells.terminal import Terminal
from state.wire.findings import Area

FINDINGS = [
    Area("sshd").wrong("For lqchen, sshd has another file. " * 3, "sshd -t && reload"),
    Area("kernel").ok("fine"),
    Area("clock").note("Not synchronised.", "timedatectl"),
]


class Screen(io.StringIO):
    """A terminal of 60 columns."""

    def isatty(self) -> bool:
        return True


def test_in_a_pipe_one_line_each_and_one_for_the_hint(capsys: pytest.CaptureFixture[str]) -> None:
    show(FINDINGS, Terminal(sys.stdout, sys.stdout), "gpu17")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "ok    kernel  fine"
    assert lines[1] == "note  clock   Not synchronised."
    assert lines[2].strip() == "timedatectl"
    assert lines[3].startswith("WRONG sshd    For lqchen")
    assert lines[-1] == "gpu17: 1 thing is wrong (1 ok, 1 note)"


def test_on_a_terminal_it_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    show(FINDINGS, Terminal(screen, screen), "gpu17")
    lines = screen.getvalue().splitlines()
    assert max(map(len, lines)) <= 60
    assert lines[0] == "✓ kernel  fine"
    monkeypatch.delenv("NO_COLOR")
    show(FINDINGS, Terminal(screen, screen), "gpu17")
    assert "\x1b[31m✗\x1b[0m" in screen.getvalue()


def test_nothing_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    show([Area("kernel").ok("fine")], Terminal(sys.stdout, sys.stdout), "gpu17")
    assert capsys.readouterr().out.endswith("gpu17: nothing wrong (1 ok)\n")
