"""Which revision a server goes by: what is trusted, what is refused, what survives losses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from reconciler.host import places
from reconciler.host.config import ServerConfig
from reconciler.host.published import published_view
from reconciler.host.status import write_status
from reconciler.kinds.accounts import account
from reconciler.rounds import newest
from reconciler.rounds.newest import publish_newest
from reconciler.rounds.round import Scope, _published
from reconciler.rounds.trusted import trust
from state.errors import LxcGpuError
from state.git.news import news
from state.git.repository import Repository
from state.wire.messages import Report
from tests.unit.state.keyring import ed25519
from tests.unit.state.state_files import files, server_yaml, user_yaml
from tests.unit.state.workshop import Workshop, signers_yaml

ROOT = Path(__file__).parents[3]
PLACES = {"KEPT": "", "VIEW": "view.json", "TRUSTED": "trusted", "STATE_CLONE": "state.git"}


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    """A server's folders, and the work tree that it fetches from."""
    kept = tmp_path / "kept"
    kept.mkdir()
    for name, file in PLACES.items():
        monkeypatch.setattr(places, name, kept / file)
    monkeypatch.setattr(places, "LOCKS", tmp_path / "locks")
    for name in ("PASSWD", "SHADOW", "GROUP"):
        monkeypatch.setattr(account, name, tmp_path / name)
    made = Workshop.open(tmp_path)
    made.write(files())
    signers = signers_yaml(alice=made.key("alice"), iam=made.key("iam"))
    made.commit("alice", {"fleet.yaml": "format: 1\n" + signers}, "Begin")
    return made


def config(shop: Workshop) -> ServerConfig:
    return ServerConfig("gpu17", str(shop.folder), "gate")


def trusted() -> str:
    return places.TRUSTED.read_text().strip()


def test_a_server_that_trusts_nothing_says_what_to_type(shop: Workshop) -> None:
    with pytest.raises(LxcGpuError) as caught:
        publish_newest(config(shop))
    assert caught.value.code == "state-untrusted"
    assert f"'Begin' by Somebody, signed by alice (admin), {shop.key('alice').fingerprint}" in (
        caught.value.message
    )
    assert caught.value.hint.endswith(f"setup/gpu-server --trust {shop.head}")
    assert not places.VIEW.exists()


def test_what_is_verified_becomes_the_view_and_is_trusted(shop: Workshop) -> None:
    trust(shop.head)
    for _ in range(2):
        tip = shop.commit("alice", {"README.md": shop.head}, "x\n\nAllow-Disable: 7")
        found = publish_newest(config(shop))
        assert (found.view.revision, found.refused, found.view.allow_disable) == (tip, "", 7)
        assert published_view() == found.view
        assert trusted() == tip
        assert publish_newest(config(shop)).view == found.view


@pytest.mark.parametrize("lost", ["limits", "revision"])
def test_a_view_of_another_release_is_written_again_without_the_repository(
    shop: Workshop, lost: str
) -> None:
    trust(shop.head)
    view = publish_newest(config(shop)).view
    fields = json.loads(places.VIEW.read_text())
    del fields[lost]
    unreadable = json.dumps(fields)
    gone = config(shop)._replace(state_url=str(shop.folder / "gone"))
    places.VIEW.write_text(unreadable)
    assert newest.render_again(gone)
    assert published_view() == view
    assert not newest.render_again(gone), "it is understood now"
    known = json.loads(places.VIEW.read_text())
    places.VIEW.write_text(json.dumps({n: v for n, v in known.items() if n != "spare_subid"}))
    assert newest.render_again(gone), "an earlier release knew fewer fields"
    assert published_view() == view
    places.VIEW.write_text(unreadable)
    found = publish_newest(gone)
    assert found.view == published_view() == view
    assert "There is no Git repository" in found.refused


FOUR = ("carol", "dora", "emil", "fay")
"""Beside those who are there already."""


def four_come(shop: Workshop) -> str:
    """The revision that brings them. They have accounts on the server."""
    came: dict[str, str] = {}
    for place, user in enumerate(FOUR, 5):
        came[f"users/{user}.yaml"] = user_yaml(place, user.title(), user)
        came[f"registrations/gpu17/{user}.yaml"] = f"host_key: {ed25519(user)}\n"
    lines = [f"{user}:x:{20000 + n}:{20000 + n}::/h:/s\n" for n, user in enumerate(FOUR, 5)]
    machine = shop.folder.parent
    (machine / "PASSWD").write_text("".join(lines))
    (machine / "GROUP").write_text(f"{places.USERS_GROUP}:x:900:{','.join(FOUR)}\n")
    return shop.commit("alice", came, "Let four come")


def four_leave(shop: Workshop) -> str:
    left = [f"{folder}/{user}.yaml" for folder in ("users", "registrations/gpu17") for user in FOUR]
    return shop.commit("alice", dict.fromkeys(left), "Clean up")


def test_too_many_who_leave_take_an_admins_word(shop: Workshop) -> None:
    shop.commit("alice", {"fleet.yaml": _fleet(shop, "most_disabled: 3\n")})
    trust(four_come(shop))
    good = publish_newest(config(shop)).view
    four_leave(shop)
    refused = publish_newest(config(shop))
    assert (refused.view, trusted()) == (good, good.revision)
    assert refused.refused.startswith(f"This would disable 4 users at once ({', '.join(FOUR)})")
    tip = shop.commit("alice", {"README.md": "x"}, "Let them go\n\nAllow-Disable: 4")
    assert (publish_newest(config(shop)).view.revision, trusted()) == (tip, tip)


def _fleet(shop: Workshop, more: str) -> str:
    return f"format: 1\n{more}{signers_yaml(alice=shop.key('alice'), iam=shop.key('iam'))}"


def test_who_may_not_changes_nothing_on_the_server(shop: Workshop) -> None:
    trust(shop.head)
    good = publish_newest(config(shop)).view
    shop.commit("iam", {"servers/gpu17.yaml": server_yaml("gpu17", "9.9.9.9")}, "Take over")
    found = publish_newest(config(shop))
    assert found.view == good == published_view()
    assert trusted() == good.revision
    assert "'Take over' by Somebody: signed by iam, which may not change servers" in found.refused
    shop.git("reset", "-q", "--hard", "HEAD^")
    shop.commit("alice")
    assert publish_newest(config(shop)).refused == ""


@pytest.mark.parametrize("lost", ["view", "trusted", "clone"])
def test_losses_lose_no_trust(shop: Workshop, lost: str) -> None:
    first = shop.head
    trust(first)
    shop.commit("alice")
    good = publish_newest(config(shop)).view
    if lost == "view":
        places.VIEW.write_text("half a vi")
    elif lost == "trusted":
        places.TRUSTED.unlink()
    else:
        places.STATE_CLONE.rename(places.KEPT / "gone")
    assert publish_newest(config(shop)).view.revision == good.revision == trusted()
    (places.VIEW if lost == "view" else places.TRUSTED).unlink()
    shop.git("reset", "-q", "--hard", first)
    if lost == "view":
        with pytest.raises(LxcGpuError, match="history was rewound"):
            publish_newest(config(shop))
    else:
        assert "history was rewound" in publish_newest(config(shop)).refused


def test_a_round_does_not_overwrite_what_a_sysadmin_just_trusted(shop: Workshop) -> None:
    first = shop.head
    trust(first)
    shop.commit("alice")
    publish_newest(config(shop))
    trust(first)  # as `setup/gpu-server --trust` does, before the repository is rewound
    publish_newest(config(shop))
    assert trusted() == first


def test_rewinding_takes_a_person_on_the_server(shop: Workshop) -> None:
    first = shop.head
    trust(first)
    shop.commit("alice", {"README.md": "mistake"})
    mistake = publish_newest(config(shop)).view.revision
    shop.git("reset", "-q", "--hard", first)
    other = shop.commit("alice", {"README.md": "other"})
    refused = publish_newest(config(shop))
    assert refused.view.revision == mistake
    assert "setup/gpu-server --trust REVISION" in refused.refused
    trust(first)
    assert publish_newest(config(shop)).view.revision == other


def test_the_only_admins_key_is_lost(shop: Workshop) -> None:
    trust(shop.head)
    good = publish_newest(config(shop)).view
    signers = signers_yaml(alice=shop.key("alice-again"), iam=shop.key("iam"))
    tip = shop.commit("alice-again", {"fleet.yaml": "format: 1\n" + signers})
    found = publish_newest(config(shop))
    assert found.view == good
    assert "signed by a stranger" in found.refused
    trust(tip)
    assert publish_newest(config(shop)).view.revision == tip
    last = shop.commit("alice-again", {"README.md": "as ever"})
    assert publish_newest(config(shop)).view.revision == last


def test_a_kill_between_view_and_trust_is_healed(shop: Workshop) -> None:
    trust(shop.head)
    publish_newest(config(shop))
    note = places.KEPT / "note"
    note.hardlink_to(places.TRUSTED)
    shop.commit("alice")
    publish_newest(config(shop))
    note.replace(places.TRUSTED)  # as the kill leaves it
    assert trusted() != shop.head
    assert publish_newest(config(shop)).view.revision == shop.head == trusted()


def test_what_a_sysadmin_says_counts_even_if_it_stood_there(shop: Workshop) -> None:
    first = shop.head
    trust(first)
    shop.commit("alice")
    publish_newest(config(shop))
    places.TRUSTED.write_text(f"{first}\n")  # as a kill before the note leaves it
    os.utime(places.TRUSTED, (1, 1))
    trust(first)
    publish_newest(config(shop))
    assert trusted() == first, "no round overwrites it"


def test_a_round_with_nothing_new_loads_nothing_for_it(shop: Workshop) -> None:
    trust(shop.head)
    publish_newest(config(shop))
    paths = {name: str(getattr(places, name)) for name in (*PLACES, "LOCKS")}
    script = (
        "import json, sys\nfrom pathlib import Path\nfrom reconciler.host import places\n"
        "for name, path in json.loads(sys.argv[1]).items(): setattr(places, name, Path(path))\n"
        "from reconciler.rounds.newest import publish_newest\n"
        "from reconciler.host.config import ServerConfig\n"
        "publish_newest(ServerConfig('gpu17', sys.argv[2], 'gate'))\n"
        "heavy = ('pydantic', 'cryptography', 'ruamel', 'state.trust.walk')\n"
        "print([m for m in heavy if m in sys.modules])"
    )
    words = [sys.executable, "-c", script, json.dumps(paths), str(shop.folder)]
    done = subprocess.run(words, capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "[]\n"


def brings(shop: Workshop, base: str, tip: str) -> bytes:
    found = news(shop.repository.git, base, tip)
    assert found is not None
    return found


@pytest.fixture
def gone(shop: Workshop) -> ServerConfig:
    """A server on the first revision, whose repository doesn't answer any more."""
    trust(shop.head)
    publish_newest(config(shop))
    return config(shop)._replace(state_url=str(shop.folder / "gone"))


def test_what_a_nudge_brings_is_trusted_without_a_fetch(shop: Workshop, gone: ServerConfig) -> None:
    first = shop.head
    shop.commit("alice", {"README.md": "one"})
    tip = shop.commit("alice", {"README.md": "two"})
    found = publish_newest(gone, brings(shop, first, tip))
    assert (found.view.revision, found.refused, found.fetched) == (tip, "", False)
    assert published_view() == found.view
    assert trusted() == tip
    found = publish_newest(config(shop))
    assert (found.view.revision, found.fetched, trusted()) == (tip, True, tip)


def test_a_repository_that_lags_behind_news_is_refused(shop: Workshop, gone: ServerConfig) -> None:
    first = shop.head
    removes = shop.commit("alice", {"README.md": "a key less"})
    assert publish_newest(gone, brings(shop, first, removes)).view.revision == removes
    shop.git("reset", "-q", "--hard", first)
    found = publish_newest(config(shop))
    assert (found.view.revision, trusted()) == (removes, removes), "the key stays out"
    assert "history was rewound" in found.refused
    assert publish_newest(config(shop), brings(shop, first, removes)) == found, "nothing new"


def test_who_brings_a_fork_keeps_the_server_there_until_a_sysadmin_speaks(
    shop: Workshop, gone: ServerConfig
) -> None:
    first = shop.head
    fork = shop.commit("alice", {"README.md": "made up"})
    made_up = brings(shop, first, fork)
    shop.git("reset", "-q", "--hard", first)
    right = shop.commit("alice", {"README.md": "right"})
    rightly = brings(shop, first, right)
    assert publish_newest(gone, made_up).view.revision == fork
    for given in (b"", rightly):
        found = publish_newest(config(shop), given)
        assert (found.view.revision, trusted()) == (fork, fork)
        assert "setup/gpu-server --trust REVISION" in found.refused
    trust(first)
    found = publish_newest(gone, rightly)
    assert (found.view.revision, found.refused, trusted()) == (right, "", right), "counts at once"
    assert publish_newest(config(shop), made_up).view.revision == right, "no way back"


@pytest.mark.parametrize("why", ["role", "unsigned", "stranger", "invalid", "older", "brake"])
def test_what_is_not_right_is_asked_of_the_repository(
    shop: Workshop, gone: ServerConfig, why: str
) -> None:
    first = shop.head
    moved = {"servers/gpu17.yaml": server_yaml("gpu17", "9.9.9.9")}
    if why == "role":
        shop.commit("iam", moved)
    elif why == "unsigned":
        shop.commit(None)
    elif why == "stranger":
        shop.commit("stranger")
    elif why == "invalid":
        shop.commit("alice", {"servers/gpu17.yaml": "address: here\n"})
    elif why == "brake":
        shop.commit("alice", {"fleet.yaml": _fleet(shop, "most_disabled: 3\n")})
        four_come(shop)
        publish_newest(config(shop))
        four_leave(shop)
    else:
        later = shop.commit("alice")
        assert publish_newest(config(shop)).view.revision == later
        shop.git("reset", "-q", "--hard", first)
        shop.commit("alice", {"README.md": "another line"})
    kept, bad = published_view(), brings(shop, first, shop.head)
    assert kept is not None
    assert publish_newest(gone, bad) == newest.Newest(kept, publish_newest(gone).refused)
    shop.git("reset", "-q", "--hard", kept.revision if why != "older" else first)
    assert not Repository(places.STATE_CLONE).holds(bad.split(b"\n")[0].decode())
    if why != "older":
        good = shop.commit("alice", {"README.md": "good"})
        assert publish_newest(config(shop), bad).view.revision == good


@pytest.mark.parametrize("lost", ["trusted", "view", "clone", "everything"])
def test_after_losses_news_are_judged_from_where_a_fetch_would_be(
    shop: Workshop, gone: ServerConfig, lost: str
) -> None:
    second = shop.commit("alice")
    publish_newest(config(shop))
    tip = shop.commit("alice", {"README.md": "x"})
    if lost in ("trusted", "everything"):
        places.TRUSTED.unlink()
    if lost in ("view", "everything"):
        places.VIEW.write_text("half a vi")
    if lost in ("clone", "everything"):
        places.STATE_CLONE.rename(places.KEPT / "gone")
    if lost == "clone":
        assert publish_newest(gone, brings(shop, second, tip)).refused
    elif lost == "everything":
        with pytest.raises(LxcGpuError, match="trusts no revision"):
            publish_newest(config(shop), brings(shop, second, tip))
    else:
        found = publish_newest(gone, brings(shop, second, tip))
        assert (found.view.revision, trusted()) == (tip, tip)


def test_while_the_repository_is_refused_no_news_are_taken(
    shop: Workshop, gone: ServerConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else who makes them up would take the refusal from the status by each further commit."""
    monkeypatch.setattr(places, "STATUS", places.KEPT / "status.json")
    first = shop.head
    tip = shop.commit("alice")
    scope = Scope((), news=brings(shop, first, tip))
    report = Report("gpu17", first, finished=1.0, seconds=0.1, refused="history was rewound")
    write_status(report)
    found = _published(gone, scope)
    assert (found.view.revision, found.fetched) == (first, True)
    assert found.refused
    write_status(report._replace(refused=""))
    assert _published(gone, scope).view.revision == tip
