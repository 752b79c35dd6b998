"""The page while the state repository is away, damaged or locked."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from state.git.repository import Repository
from tests.integration.forms import get, save
from tests.integration.web import OTHER, Web
from tests.patience import eventually
from webui.application import assemble, build
from webui.doctor.iam import Iam
from webui.doctor.repository import whole


def test_pages_go_on_while_the_repository_is_away(web: Web) -> None:
    save(web)
    away = web.repository.rename(web.repository.with_name("away"))
    eventually(lambda: "This may be out of date." in get(web, "/user/lqchen"))
    page = get(web, "/user/lqchen")
    assert "Lequn Chen" in page
    refused = save(web, "lqchen", keys=OTHER)
    assert refused.status_code in (422, 503)
    assert "Nothing was saved" in refused.get_data(as_text=True)
    away.rename(web.repository)
    assert save(web, "lqchen", keys=OTHER).status_code == 303


def damage(clone: Path) -> None:
    """After a power cut, some files are empty."""
    for file in (each for each in (clone / "objects").rglob("*") if each.is_file()):
        file.chmod(0o644)
        file.write_bytes(b"")


def test_a_damaged_clone_of_the_page_heals(web: Web, caplog: pytest.LogCaptureFixture) -> None:
    save(web)
    damage(web.folder / "clone")
    assert save(web, keys=f"{OTHER} lqchen@desk").status_code == 303
    assert "event=clone-damaged" in caplog.text
    damage(web.folder / "clone")
    eventually(lambda: "by Lequn Chen" in get(web, "/history"))
    damage(web.folder / "clone")
    again = build(web.parts.config, assemble(web.parts.config)).test_client()
    assert again.get("/user/lqchen").status_code == 200
    assert OTHER in again.get("/user/lqchen/.ssh/authorized_keys").get_data(as_text=True)


def test_the_doctor_finds_damage_and_abandoned_locks(web: Web) -> None:
    save(web)
    iam, clone = Iam(web.parts.config), web.folder / "clone"
    assert [finding.level for finding in whole(iam)] == ["ok"]
    lock = web.repository / "refs/heads/main.lock"
    lock.touch()
    os.utime(lock, (time.time() - 100, time.time() - 100))
    locked, _ = whole(iam)
    assert (locked.level, locked.hint.split()[-2:]) == ("wrong", ["rm", str(lock)])
    lock.unlink()
    good = Repository.clone(str(web.repository), web.folder / "gate-clone")
    damage(clone)
    _, hurt = whole(iam)
    assert f"The clone {clone} is damaged" in hurt.text
    damage(web.repository)
    lost, _ = whole(iam)
    assert f"{web.repository} is damaged" in lost.text
    away, made, _ = lost.hint.split("; ")  # the last word is set-up's
    for line in (away, made.partition(" -- ")[2]):
        subprocess.run(line, shell=True, check=True)
    assert web.git("rev-parse", "main").strip() == good.tip()
