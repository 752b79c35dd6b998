"""Children that start containers: one that fails, or is killed, keeps no other from its turn."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[4]
STARTS = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from reconciler.host import places
from shells.units import come_back
for name in ("VIEW", "RUNNING", "DOWN", "CAME_BACK", "LOCKS"):
    setattr(places, name, Path(sys.argv[2], name))
def event(what, /, **more):
    os.write(2, f"{what} {more}\\n".encode())
come_back.event = event
def runs(user, tell):
    if user == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if user == "bug":
        raise RuntimeError("nobody thought of it")
    return come_back.power_start(user, tell)
come_back.power_start, come_back.start = come_back.start, runs
print(sorted(come_back.bring_back(sys.argv[3:])))
"""
"""There is no view, so no container starts; of two, the child ends in worse ways."""


def test_all_have_their_turn_and_each_failure_is_told(tmp_path: Path) -> None:
    users = ["ann", "killed", "bob", "bug", "eve", "joe", "mia"]
    words = [sys.executable, "-c", STARTS, str(ROOT), str(tmp_path), *users]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout == f"{sorted(users)}\n"
    told = [line for line in done.stderr.splitlines() if line.startswith("come-back-failed")]
    codes = {user: line for user in users for line in told if f"'{user}'" in line}
    assert len(told) == len(users)
    assert "'helper-died'" in codes["killed"]
    assert "'bug'" in codes["bug"].replace("'user': 'bug'", "")
    assert all("'no-view'" in codes[user] for user in users if user not in ("killed", "bug"))
