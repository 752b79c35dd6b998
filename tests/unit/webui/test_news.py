"""What a nudge carries: made for servers that can take it, and never in a nudge's way."""

from __future__ import annotations

from pathlib import Path

import pytest

from state.wire.messages import Report
from tests.patience import eventually
from tests.unit.state.state_files import files
from tests.unit.state.workshop import Workshop
from webui.application import news_for
from webui.clone.source import StateSource
from webui.servers.board import NudgeOutcome, Phase, ServerStanding


@pytest.fixture
def behind(tmp_path: Path) -> tuple[StateSource, Report]:
    """The page's source, and the report of a server that lacks its last revision."""
    shop = Workshop.open(tmp_path)
    shop.write(files())
    first = shop.commit(None)
    source = StateSource(str(shop.folder), tmp_path / "clone", tmp_path / "signing", 0.01)
    eventually(lambda: source.current().revision == first)
    tip = shop.commit(None, {"README.md": "new"})
    eventually(lambda: source.current().revision == tip)
    return source, Report(server="gpu17", revision=first, finished=1.0, seconds=0.1)


def standing(report: Report | None) -> ServerStanding:
    return ServerStanding(NudgeOutcome("gpu17", Phase.CONVERGED, ""), report, 1.0)


def test_who_lacks_something_gets_it(behind: tuple[StateSource, Report]) -> None:
    source, report = behind
    assert news_for("gpu17", standing(report), source)
    assert news_for("gpu17", standing(None), source) is None
    assert news_for("gpu17", None, source) is None
    refuses = report._replace(refused="history was rewound")
    assert news_for("gpu17", standing(refuses), source) is None, "it would refuse them again"


def test_news_that_can_not_be_made_hold_up_no_nudge(
    behind: tuple[StateSource, Report],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    source, report = behind
    monkeypatch.setenv("PATH", "/nowhere")
    assert news_for("gpu17", standing(report), source) is None
    assert "event=news-failed server=gpu17 why='Git is not installed." in caplog.text
