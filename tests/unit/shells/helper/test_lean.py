"""What the programs of an answer leave unloaded: each import is waited for at each of them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[4]
VIEWS = {"state.view", "reconciler.host.config", "tomllib"}
STARTS = {
    "reconciler.requests.prepare",
    "reconciler.kinds.containers.cpu_set",
    "reconciler.kinds.traffic.identity",
}


@pytest.mark.parametrize(
    ("programs", "others"),
    [
        ("shells.accounts.login, shells.accounts.help_texts", {"re", "typing", "json", "socket"}),
        ("shells.accounts.asking", VIEWS | {"state.command", "dataclasses", "pathlib", "urllib"}),
        ("shells.helper.ahead", {"re", "enum", "socket", "selectors", "collections"}),
        ("shells.helper.hand_over", {"re", "enum", "socket", "selectors", "dataclasses"}),
        ("shells.accounts.iam", VIEWS | {"state.command", "reconciler.load.stream"}),
        ("shells.helper.root, shells.helper.rounds", {"tomllib", *STARTS}),
        ("shells.helper.root, shells.verbs.start", {"tomllib", *STARTS}),
    ],
    ids=[
        "help",
        "login-shell",
        "connecting-ahead",
        "a-request-handed-over",
        "iam",
        "a-nudge",
        "start-of-what-runs",
    ],
)
def test_an_answer_loads_only_what_it_is_about(programs: str, others: set[str]) -> None:
    loads = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import {programs}; print(*sys.modules)"
    words = ["/usr/bin/python3", "-IS", "-c", loads]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert others & set(done.stdout.split()) == set()
