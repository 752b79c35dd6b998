"""Who can become root on this server, by groups and by what sudo's files say."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.mounts import like_root, old_accounts
from state import command
from state.errors import LxcGpuError
from tests.unit.reconciler.views import RESIDENT, with_

GETENT = """#!/bin/sh
case "$1 $3" in
"passwd ann") printf '%s\\n' ann:x:3001:3001::/home/ann:/bin/sh;;
"initgroups ann") {initgroups};;
group*) for name; do case $name in
    gpu-admins) echo gpu-admins:x:4001:;;
    wheel) echo wheel:x:4002:bob,ann;;
    esac; done;;
esac
"""
ANN = with_(residents={"ann": replace(RESIDENT, login="ann")})


@pytest.mark.parametrize(
    ("text", "names"),
    [("root\tALL=(ALL:ALL) ALL\n%sudo ALL=(ALL:ALL) ALL", {"root", "%sudo"}),
     ("%gpu-admins ALL=NOPASSWD: ALL  # who cares", {"%gpu-admins"}),
     ("jsmith , %#27,#1004 gpu17 = /bin/x", {"jsmith", "%#27", "#1004"}),
     ("User_Alias OPS = ann, bob : MORE=\\\n  carl\nOPS ALL=ALL",
      {"OPS", "ann", "bob", "carl"}),
     ('%domain\\ admins@mylab.com ALL=ALL\n"%gpu people" ALL=ALL',
      {"%domain admins@mylab.com", "%gpu people"}),
     ("MYLAB\\\\joe ALL=ALL", {"MYLAB\\joe"}),
     ("ALL, !bob ALL=ALL", {"ALL"}),
     ("# ann ALL=ALL\nDefaults:ann !x=1\nCmnd_Alias X=/bin/x\nHost_Alias Y=a\nDefaults env_reset",
      set())],
)  # fmt: skip
def test_whom_sudoers_names(text: str, names: set[str]) -> None:
    assert set(like_root.named(text)) == names


def test_what_sudoers_includes_is_read_and_what_sudo_leaves_out_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(like_root, "SUDOERS", (tmp_path / "sudoers",))
    assert like_root.in_sudoers() == frozenset()
    (tmp_path / "d").mkdir()
    (tmp_path / "sudoers").write_text(f"ann ALL=ALL\n@includedir d\n#include {tmp_path}/more\n")
    (tmp_path / "more").write_text("bob ALL=ALL\n@include sudoers\n")
    for name in ("lab", "old.dpkg-old", "backup~"):
        (tmp_path / "d" / name).write_text(f"by-{name} ALL=ALL\n")
    assert like_root.in_sudoers() == {"ann", "bob", "by-lab"}


@pytest.mark.parametrize(
    ("initgroups", "sudoers", "powers"),
    [("echo ann 3001", "", ("wheel",)),
     ("echo ann", "", ("wheel",)),
     ("echo ann 4001", "%gpu-admins ALL=ALL", ("gpu-admins", "wheel")),
     ("echo ann 4001", "%#4001 ALL=ALL", ("gid 4001", "wheel")),
     ("echo ann", "Ann@mylab.com ALL=ALL", ("wheel", "sudoers")),
     ("echo ann", "#3001 ALL=ALL", ("wheel", "sudoers")),
     ("echo ann", "ALL ALL=ALL", ("wheel", "sudoers")),
     ("echo ann", "bob ALL=ALL", ("wheel",))],
)  # fmt: skip
def test_groups_that_sudoers_names_are_like_root(
    initgroups: str, sudoers: str, powers: tuple[str, ...], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    _says(tmp_path, monkeypatch, initgroups, sudoers)
    assert old_accounts.ask(ANN, ["ann"]).by_name["ann"].like_root == powers


def test_no_answer_about_somebodys_groups_is_not_the_answer_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _says(tmp_path, monkeypatch, "exit 1", "")
    with pytest.raises(LxcGpuError) as refused:
        old_accounts.ask(ANN, ["ann"])
    assert refused.value.code == "accounts-silent"


def _says(folder: Path, monkeypatch: pytest.MonkeyPatch, initgroups: str, sudoers: str) -> None:
    """A server with another getent(1), and sudo's files in a folder."""
    (folder / "getent").write_text(GETENT.replace("{initgroups}", initgroups))
    (folder / "getent").chmod(0o755)
    (folder / "sudoers").write_text(sudoers)
    monkeypatch.setattr(command, "SEARCH_PATH", f"{folder}:{command.SEARCH_PATH}")
    monkeypatch.setattr(like_root, "SUDOERS", (folder / "sudoers",))


@pytest.mark.parametrize(
    ("local", "found"),
    [("ann:x:3001:3001::/home/ann:/bin/sh", True),
     ("ann:x:1004:1004::/home/ann:/bin/sh", True),
     ("jsmith:x:3001:3001::/home/ann:/bin/sh", True),
     ("", False)],
)  # fmt: skip
def test_an_account_whose_name_or_uid_is_this_servers_own_is_local(
    local: str, found: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _says(tmp_path, monkeypatch, "echo ann", "")
    text = (tmp_path / "getent").read_text()
    own = f'case "$1" in --service=files) echo {shlex.quote(local)}; exit;; --*) exit;; esac'
    (tmp_path / "getent").write_text(text.replace("\n", f"\n{own}\n", 1))
    assert old_accounts.ask(ANN, ["ann"]).by_name["ann"].local is found
