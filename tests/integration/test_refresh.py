"""The page follows a real directory: names, and people who are gone from it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from werkzeug.test import TestResponse

from state.errors import LxcGpuError
from tests.integration import slapd
from tests.integration.slapd import Slapd
from tests.integration.web import KEY, PEOPLE, Web, made_key, make_web, push, with_groups
from webui.directory.ldap import Directory
from webui.directory.refresh import Refresher
from webui.directory.vanished import VanishedRule

pytestmark = pytest.mark.skipif(
    not Path("/usr/sbin/slapd").exists(), reason="needs slapd (apt-get install slapd)"
)


VISION = f"cn=vision,ou=groups,{slapd.BASE}"


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Slapd]:
    more = [
        slapd.person("carl", "Carl Coe", "carl's", extra="employeeType: lab"),
        slapd.group("inner", f"cn=Ann Lee,ou=people,{slapd.BASE}"),
        slapd.group("vision", VISION.replace("vision", "inner")),
    ]
    with slapd.running(tmp_path / "slapd", "\n".join([PEOPLE, *more])) as running:
        yield running


@pytest.fixture
def web(tmp_path: Path, directory: Slapd) -> Web:
    """A page that disables who was gone in two refreshes; three people have saved."""
    made = make_web(tmp_path / "web", directory, {})
    refresher = Refresher(
        made.parts.source, made.parts.directory.look_up_all, VanishedRule(True, 2, 3)
    )
    parts = replace(made.parts, refresher=refresher)
    made.app.extensions["lxc-gpu"] = parts
    web = replace(made, parts=parts)
    for number, (login, password) in enumerate(
        (("LQChen", "right horse"), ("ann", "ann's own"), ("carl", "carl's"))
    ):
        assert save(web, login, password, made_key(number)).status_code == 303
    return web


def save(web: Web, login: str, password: str, keys: str = KEY) -> TestResponse:
    typed = {"login": login, "password": password, "keys": keys}
    return web.app.test_client().post(f"/user/{login}", data=typed)


def home(web: Web) -> str:
    return web.app.test_client().get("/").get_data(as_text=True)


def commits(web: Web) -> int:
    return int(web.git("rev-list", "--count", "main"))


def test_nothing_changed_is_no_commit_and_no_word(web: Web) -> None:
    before = commits(web)
    for _ in range(3):
        web.parts.refresher.refresh()
    assert commits(web) == before
    assert "gone from the directory" not in home(web)


def test_changed_names_are_one_commit_by_iam(
    web: Web, directory: Slapd, caplog: pytest.LogCaptureFixture
) -> None:
    before = commits(web)
    slapd.modify(directory, "Ann Lee", uid="annika")  # the login: found by the entry's own id
    name = {"name_attribute": "displayName"}
    slapd.modify(directory, "Ann Lee", displayName="Ann Lee-Smith")
    slapd.modify(directory, "Lequn Chen", displayName="Lequn C. Chen")
    config = web.parts.config.directory.model_copy(update=name)
    with caplog.at_level("INFO"):
        Refresher(
            web.parts.source, Directory(config).look_up_all, VanishedRule(False, 1, 1)
        ).refresh()
    assert commits(web) == before + 1
    assert web.git("log", "-1", "--format=%an").strip() == "IAM"
    users = web.parts.source.newest().state.users
    assert (users["ann"].name, users["lqchen"].name) == ("Ann Lee-Smith", "Lequn C. Chen")
    assert users["carl"].name == "Carl Coe"  # who has no displayName keeps the name
    assert "event=names-followed users=ann,lqchen" in caplog.text


@pytest.mark.parametrize("how", ["deleted", "not allowed", "expired", "another person"])
def test_who_is_gone_is_said_and_then_disabled_and_may_come_back(
    web: Web, directory: Slapd, how: str
) -> None:
    if how in ("deleted", "another person"):
        slapd.delete(directory, "Ann Lee")
    if how == "another person":
        slapd.add(directory, "ann", "Ann Other", "other")
    if how == "not allowed":
        slapd.modify(directory, "Ann Lee", employeeType="guest")
    if how == "expired":
        slapd.modify(
            directory, "Ann Lee", objectClass=["inetOrgPerson", "shadowAccount"], shadowExpire="1"
        )
    web.parts.refresher.refresh()
    page = home(web)
    assert "1 person is gone from the directory" in page
    assert "lxc-gpu user disable ann" in page
    assert "ann" in web.parts.source.newest().state.users
    web.parts.refresher.refresh()
    state = web.parts.source.newest().state
    assert "ann" in state.former
    assert web.git("log", "-1", "--format=%an|%s").strip() == "IAM|ann leaves"
    assert "gone from the directory" not in home(web)
    if how == "not allowed":
        slapd.modify(directory, "Ann Lee", employeeType="lab")
        assert save(web, "ann", "ann's own", made_key(1)).status_code == 303
        assert web.parts.source.newest().state.users["ann"].uid == state.former["ann"].uid


def test_whom_a_sysadmin_disabled_has_to_ask(web: Web) -> None:
    clone = web.folder / "sysadmin"
    subprocess.run(["git", "clone", "-q", web.repository, clone], check=True)
    (clone / "former").mkdir()
    (clone / "users/ann.yaml").rename(clone / "former/ann.yaml")
    push(clone, "ann leaves")
    web.parts.source.newest()
    refused = save(web, "ann", "ann's own", made_key(1))
    assert refused.status_code == 422
    page = refused.get_data(as_text=True)
    assert "A sysadmin closed the account" in page
    assert "lxc-gpu user enable ann" in page
    allowing = web.parts.config.model_copy(update={"returning": "allow"})
    web.app.extensions["lxc-gpu"] = replace(web.parts, config=allowing)
    assert save(web, "ann", "ann's own", made_key(1)).status_code == 303


def test_a_directory_in_disorder_locks_nobody_out(
    web: Web, directory: Slapd, caplog: pytest.LogCaptureFixture
) -> None:
    wrong = web.parts.config.directory.model_copy(update={"allow": "(employeeType=staff)"})
    refresher = Refresher(
        web.parts.source, Directory(wrong).look_up_all, VanishedRule(True, 1, 100)
    )
    dead = wrong.model_copy(update={"servers": (f"ldap://127.0.0.1:{slapd.free_port()}",)})
    down = Refresher(web.parts.source, Directory(dead).look_up_all, VanishedRule(True, 1, 100))
    for _ in range(3):
        refresher.refresh()
        down.refresh()
    assert len(web.parts.source.newest().state.users) == 3
    assert "event=not-disabled users=ann,carl,lqchen why='the directory seems" in caplog.text
    assert "event=directory-failed code=directory-down" in caplog.text
    assert down.news(web.parts.source.newest().state).gone == ()


def test_groups_of_past_weeks_follow_the_directory_and_outlive_it(
    web: Web, directory: Slapd, tmp_path: Path
) -> None:
    groups = with_groups(web, {"Vision": VISION})
    memberships, history = groups.parts.memberships, groups.parts.history
    memberships.refresh()
    history.flush()
    this_week = "2999-W01"
    assert history.belonging().of("ann", this_week) == ("Vision",)
    assert history.belonging().of("lqchen", this_week) == ()
    slapd.delete(directory, "Ann Lee")  # whom nobody knows any more stays where she was
    memberships.refresh()
    history.flush()
    assert history.belonging().of("ann", this_week) == ("Vision",)
    gone = with_groups(web, {"Vision": VISION, "Sound": VISION.replace("vision", "sound")})
    with pytest.raises(LxcGpuError, match="The directory has no group cn=sound"):
        gone.parts.memberships.refresh()
    gone.parts.history.flush()
    assert gone.parts.history.belonging().of("ann", this_week) == ("Vision",)
    page = gone.app.test_client().get("/monitor/history").get_data(as_text=True)
    assert "The directory has no group cn=sound" in page
