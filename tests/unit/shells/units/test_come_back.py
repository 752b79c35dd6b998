"""Children that start containers: one that fails, or is killed, keeps no other from its turn."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.unit.own_log import said_by

STARTS = """
import os, signal
from pathlib import Path
from reconciler.host import places
from shells.units import come_back
for name in ("VIEW", "RUNNING", "DOWN", "CAME_BACK", "LOCKS"):
    setattr(places, name, Path(sys.argv[2], name))
start = come_back.start
def worse(user, tell, patience):
    if user == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if user == "bug":
        raise RuntimeError("nobody thought of it")
    return start(user, tell, patience=patience)
come_back.start = worse
users = ["ann", "killed", "bob", "bug", "eve", "joe"]
print(sorted(come_back.bring_back(users)) == sorted(users))
for _ in range(len(users) + 1):
    print(journal.recv(9999).decode().partition(": ")[2])
"""
"""There is no view, so no container starts. Two starts end in worse ways, for which no state of a
server is known: a stand-in does that.
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: a log of its own")
def test_all_have_their_turn_and_each_failure_is_told(tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    all_failed, *told = said_by(STARTS, tmp_path / "dev", tmp_path).splitlines()
    assert all_failed == "True"
    begin = "event=come-back-failed user="
    failures = sorted(line.split(" why=")[0] for line in told if "=come-back-failed" in line)
    assert failures == sorted(
        [
            *(f"{begin}{user} code=no-view" for user in ("ann", "bob", "eve", "joe")),
            f"{begin}killed code=helper-died",
            f"{begin}bug code=bug",
        ]
    )
    (crashed,) = (line for line in told if "=crashed" in line)
    assert "nobody thought of it" in crashed
