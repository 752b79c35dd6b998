"""A round that the root helper is asked for: how it begins and ends, and what is passed on."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from reconciler.host import places
from reconciler.host.status import write_status
from shells.helper import rounds
from state.command import SEARCH_PATH
from state.wire.messages import LONGEST_NEWS, Report

ROOT = Path(__file__).parents[4]
ASKS = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from reconciler.host import places
from state import command

server = Path(sys.argv[2])
for name in "KEPT LOCKS SERVER_CONFIG STATE_CLONE STATUS SUSPENDED TRUSTED VIEW".split():
    setattr(places, name, server / name)
command.SEARCH_PATH = f"{server}:{command.SEARCH_PATH}"

from shells.helper.rounds import reconcile
from state.errors import LxcGpuError

try:
    reconcile(print)
except LxcGpuError as error:
    print(error.code, error.message)
"""
GIT = """#!/bin/sh
[ -e "$0.environment" ] || env >"$0.environment"
exec /usr/bin/git "$@"
"""


@pytest.fixture
def server(tmp_path: Path) -> Path:
    """The folder of a server whose repository isn't there."""
    config = f'name = "gpu17"\nstate_url = "{tmp_path}/none"\ngate = "gate"\n'
    (tmp_path / "SERVER_CONFIG").write_text(config)
    return tmp_path


def said(server: Path, *options: str, given: Mapping[str, str] | None = None) -> str:
    """What who asks there for a round reads, by a helper whose Python has these options."""
    words = [sys.executable, *options, "-c", ASKS, str(ROOT), str(server)]
    done = subprocess.run(words, capture_output=True, text=True, check=True, env=given)
    return done.stdout


@pytest.mark.parametrize("given", [{}, {"TZ": "Asia/Tokyo", "PATH": "/", "LANG": "de_DE"}])
def test_its_environment_is_that_of_all_our_programs(server: Path, given: dict[str, str]) -> None:
    git = server / "git"
    git.write_text(GIT)
    git.chmod(0o755)
    said(server, given={**given, "HOME": "/root"})
    lines = (server / "git.environment").read_text().splitlines()
    got = dict(line.split("=", 1) for line in lines)
    assert (got["HOME"], got["PATH"]) == ("/root", f"{server}:{SEARCH_PATH}")
    of_git_python, of_the_shell = {"LC_ALL", "LANGUAGE"}, {"PWD", "OLDPWD", "SHLVL", "_"}
    assert got.keys() - of_git_python - of_the_shell == {"HOME", "PATH"}


def test_why_it_could_not_be_done_is_passed_on(server: Path) -> None:
    assert said(server).startswith("state-missing There is no Git repository")


def test_without_packages_it_says_what_to_run(server: Path) -> None:
    assert said(server, "-S").startswith("no-packages The Python package git is missing")


def test_who_asked_for_one_that_dies_reads_that(server: Path) -> None:
    (server / "SERVER_CONFIG").unlink()
    (server / "SERVER_CONFIG").mkdir()  # nobody expects that
    assert said(server).startswith("round-died ")


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
