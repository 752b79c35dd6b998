"""The page's own clone and its watcher when no thread can be had, with a real repository."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from state.errors import LxcGpuError
from state.wire.messages import Report
from tests.integration.sshd import ssh_key
from tests.integration.web import make_repository, push
from tests.patience import eventually
from tests.threads import none_to_be_had
from webui.clone.source import StateSource
from webui.servers.board import Board
from webui.servers.contact import Target
from webui.servers.nudge import Nudger


@pytest.fixture
def source(tmp_path: Path) -> StateSource:
    """Of a fleet with gpu17; it looks for news each tenth of a second."""
    bare = make_repository(tmp_path, ssh_key(tmp_path / "signing"), {"gpu17": ("192.0.2.1", 22)})
    return StateSource(str(bare), tmp_path / "clone", tmp_path / "signing", 0.1)


def is_known(source: StateSource) -> bool:
    """Whether it was read, and the repository has answered."""
    try:
        return source.current().problem == ""
    except LxcGpuError:
        return False


def test_a_fetch_that_can_not_begin_is_not_waited_for_for_ever(
    source: StateSource, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with none_to_be_had(), pytest.raises(LxcGpuError) as caught:
        source.current()
    assert caught.value.code == "state-unreadable"
    assert "event=fetch-failed" in caplog.text
    eventually(lambda: is_known(source))
    known = source.current()
    revision = push(tmp_path / "work", "Say nothing new")
    with none_to_be_had():
        eventually(lambda: "another thread" in source.current().problem)
        assert source.current().revision == known.revision
    eventually(lambda: source.current().revision == revision)
    assert source.current().problem == ""


def test_what_a_sysadmin_pushes_is_passed_on_after_a_lack_of_threads(
    source: StateSource, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The watcher fails for a real cause: no fetch can begin, and then no nudge."""
    caplog.set_level(logging.INFO)
    board = Board()

    def contact(target: Target) -> Iterator[Report]:
        revision = source.current().revision
        yield Report(server=target.name, revision=revision, finished=1.0, seconds=0.1)

    def targets() -> dict[str, Target]:
        return {
            name: Target(name, str(server.address), server.ssh_port, server.host_key)
            for name, server in source.current().state.servers.items()
        }

    def reported() -> str:
        standing = board.standings().get("gpu17")
        return "" if standing is None or standing.report is None else standing.report.revision

    eventually(lambda: is_known(source))
    nudger = Nudger(targets, contact, board, lambda a, b: a == b)
    nudger.watch(lambda: source.current().revision, look_every=0.05, refresh_every=3600)
    try:
        eventually(reported)
        with none_to_be_had():
            eventually(lambda: "another thread" in source.current().problem)
            revision = push(tmp_path / "work", "Close an account")
        eventually(lambda: reported() == revision)
    finally:
        nudger.stop()
    assert "event=crashed" not in caplog.text
