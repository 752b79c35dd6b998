"""Who may be the owner of an old home, and which folder it is."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.mounts.old_accounts import LoginAccount, LoginAccounts, wrong_account
from reconciler.mounts.old_homes import OldHome, below, try_to_map
from reconciler.mounts.old_owners import changed
from reconciler.mounts.owner_map import FileOwner
from state.errors import LxcGpuError

LQCHEN = LoginAccount("lqchen", 1668801105, 1668800513, "/home/lqchen")
ACCOUNTS = LoginAccounts(
    by_name={"lqchen": LQCHEN, "Ann": replace(LQCHEN, name="Ann", uid=3002)},
    ours=frozenset({"gpu-lqchen"}),
    our_uids=frozenset({20031}),
    subordinate=(range(10_000_000, 10_262_144), range(1668900000, 1668965536)),
)


@pytest.mark.parametrize(
    ("login", "name"),
    [("lqchen", "lqchen"), ("LQChen", "lqchen"), ("Ann", "Ann"), ("ann", None), ("1000", None)],
)
def test_an_account_is_found_by_the_login_and_never_by_a_number(
    login: str, name: str | None
) -> None:
    found = ACCOUNTS.of(login)
    assert (found.name if found else None) == name


@pytest.mark.parametrize(
    ("source", "home", "way"),
    [("/home", "/home/lqchen", "lqchen"),
     ("/home", "/home/students/lqchen/", "students/lqchen"),
     ("/home", "//home//lqchen", None),
     ("/home", "/home", None),
     ("/home", "/home/", None),
     ("/home", "/home2/lqchen", None),
     ("/home", "/home/../etc", None),
     ("/home", "/home/lqchen/../ann", None),
     ("/home", "lqchen", None),
     ("/home", "", None),
     ("/home", "/", None)],
)  # fmt: skip
def test_only_a_folder_below_the_source_is_a_home(source: str, home: str, way: str | None) -> None:
    assert below(source, home) == way


@pytest.mark.parametrize(
    ("account", "code"),
    [(LQCHEN, None),
     (replace(LQCHEN, uid=0), "old-home-account"),
     (replace(LQCHEN, uid=999), "old-home-account"),
     (replace(LQCHEN, uid=65534), "old-home-account"),
     (replace(LQCHEN, uid=10_001_000), "old-home-account"),
     (replace(LQCHEN, gid=10_001_000), "old-home-account"),
     (replace(LQCHEN, uid=1668900000), "old-home-account"),
     (replace(LQCHEN, like_root=("docker",)), "old-home-root"),
     (replace(LQCHEN, like_root=("sudoers",)), "old-home-root")],
)  # fmt: skip
def test_whose_files_nobody_in_a_container_may_have(
    account: LoginAccount, code: str | None
) -> None:
    problem = wrong_account(account, ACCOUNTS, vouched=False)
    assert (problem.code if problem else None) == code
    assert (wrong_account(account, ACCOUNTS, vouched=True) is None) == (
        code in (None, "old-home-root")
    )


@pytest.mark.parametrize(
    ("before", "typed"),
    [({}, None),
     ({"ann": 3002}, None),
     ({"lqchen": 3001, "ann": 3002}, None),
     ({"ann": 3001}, "rm /var/lib/lxc-gpu/old-owners/ann"),
     ({"lqchen": 3002}, "rm /var/lib/lxc-gpu/old-owners/lqchen")],
)  # fmt: skip
def test_a_home_stays_the_users_to_whom_it_was_shown(
    before: dict[str, int], typed: str | None
) -> None:
    problem = changed("lqchen", "LQChen", 3001, before)
    assert (problem is None) == (typed is None)
    assert problem is None or f"`{typed}`" in problem.hint


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it changes owners")
@pytest.mark.parametrize(("owner", "mode"), [(3002, 0o755), (0, 0o775), (0, 0o757)])
def test_a_folder_on_the_way_that_others_may_change_ends_it(
    owner: int, mode: int, tmp_path: Path
) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "group/ann").mkdir(parents=True)
    os.chown(tmp_path / "group", owner, 0)
    (tmp_path / "group").chmod(mode)
    os.chown(tmp_path / "group/ann", 3001, 3001)
    with pytest.raises(LxcGpuError) as refused:
        try_to_map(str(tmp_path), OldHome(FileOwner(3001, 3001), "group/ann"))
    assert refused.value.code == "old-home-open"
    assert f"`chown root {tmp_path}/group; chmod go-w {tmp_path}/group`" in refused.value.hint
