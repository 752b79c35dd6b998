"""`lxc-gpu check --hook`: judges a push from inside Git's pre-receive hook."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shells.terminal import Terminal
from state.git.locks import remove_abandoned
from state.git.repository import Repository
from state.origin.hook import judge_push
from state.reading.problems import StateInvalidError


def judge_in_hook() -> None:
    """Judge the push that Git describes on standard input (githooks(5)). LxcGpuError refuses it."""
    with problems_listed():
        folder = Path(os.environ.get("GIT_DIR", ".")).absolute()
        for path in remove_abandoned(folder):
            Terminal().note(f"{path} was removed: the Git process that made it is gone.")
        judge_push(sys.stdin, Repository(folder))


@contextmanager
def problems_listed() -> Iterator[None]:
    """List all problems of a state that is found invalid in the block, and exit with status 1."""
    try:
        yield
    except StateInvalidError as error:
        terminal = Terminal()
        for problem in error.problems:
            terminal.note(terminal.paint(str(problem), "red"))
        terminal.note(error.hint)
        sys.exit(1)
