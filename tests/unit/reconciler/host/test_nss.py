"""The sources of accounts, asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.host import nss
from reconciler.kinds.accounts.conflicts import Missing, find_conflicts
from reconciler.mounts import old_accounts
from state import command
from state.errors import LxcGpuError
from tests.unit.reconciler.views import VIEW


@pytest.fixture
def silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory behind getent(1) that never answers."""
    getent = tmp_path / "getent"
    getent.write_text("#!/bin/sh\nexec sleep 60\n")
    getent.chmod(0o755)
    monkeypatch.setattr(command, "SEARCH_PATH", f"{tmp_path}:{command.SEARCH_PATH}")
    monkeypatch.setattr(nss, "PATIENCE", 0.1)


@pytest.mark.usefixtures("silent")
def test_a_silent_directory_is_named_alike_by_all_who_ask() -> None:
    (account,) = find_conflicts({"lqchen": Missing("lqchen", 20031, "")}).values()
    with pytest.raises(LxcGpuError) as home:
        old_accounts.ask(VIEW, ["lqchen"])
    assert account.code == home.value.code == "accounts-silent"
    assert account.message == home.value.message


def test_a_name_is_found_by_itself_and_lines_with_too_few_fields_are_left_out() -> None:
    assert [f[2] for f in nss.entries("passwd", ["root"], 7)] == ["0"]
    assert nss.entries("passwd", ["root"], 8) == []
    assert nss.entries("passwd", [], 7) == []


def test_one_source_is_asked_alone() -> None:
    assert [f[0] for f in nss.entries("passwd", ["root"], 7, "files")] == ["root"]


@pytest.mark.parametrize(
    ("text", "names"),
    [("passwd: files systemd sss\n", ("files", "systemd", "sss")),
     (" passwd:\tfiles [NOTFOUND=return] sss # ldap\ngroup: files\n", ("files", "sss")),
     ("group: files\n", ()),
     ("", ())],
)  # fmt: skip
def test_sources_are_read_in_order(
    text: str, names: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nss, "NSSWITCH", tmp_path / "nsswitch.conf")
    assert nss.sources("passwd") == ()
    (tmp_path / "nsswitch.conf").write_text(text)
    assert nss.sources("passwd") == names
