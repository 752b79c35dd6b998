"""What a server that was off for a while does first: verify 1,000 new commits."""

from __future__ import annotations

import tempfile
from pathlib import Path

from state.git.repository import Repository
from state.trust.walk import walk
from tests.bench.measure import Figure, seconds
from tests.unit.state.keyring import ed25519
from tests.unit.state.state_files import files, user_yaml
from tests.unit.state.workshop import Workshop, signers_yaml

COMMITS = 1000


def thousand_commits() -> Figure:
    """Each by the web page's key, each changing another of 1,000 users."""
    with tempfile.TemporaryDirectory() as folder:
        shop = Workshop.open(Path(folder))
        keys = {name: shop.key(name) for name in ("alice", "iam")}
        shop.write({**files(), "fleet.yaml": "format: 1\n" + signers_yaml(**keys)})
        shop.write({_path(n): _user(n, "One") for n in range(COMMITS)})
        first = shop.commit("alice")
        for n in range(COMMITS):
            shop.write({_path(n): _user(n, "Two")})
            shop.git(*shop.signing("iam"), "commit", "-q", "-m", f"Change {n}", "--", _path(n))
        allowed = Path(folder) / "allowed"
        allowed.write_text("".join(f"* {key}\n" for key in keys.values()))
        git = ("-c", f"gpg.ssh.allowedSignersFile={allowed}", "log", "--format=%G?", "-n1000")
        repository = Repository(shop.folder / ".git")
        ours = seconds(lambda: walk(repository, first, shop.head))
        return Figure(
            f"verify {COMMITS} new commits, {COMMITS} users",
            ours,
            seconds(lambda: shop.git(*git)),
            "git log verifying the same signatures, and judging nothing",
            "under 5 s",
        )


def _path(number: int) -> str:
    return f"users/u{number}.yaml"


def _user(number: int, name: str) -> str:
    return user_yaml(10 + number, f"{name} {number}", f"u{number}", str(ed25519(number, "x")))
