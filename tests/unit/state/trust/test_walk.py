"""The walk along first parents: real Git, real keys, and people who try to get round it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from state.edits.edit import Edit
from state.edits.users import add_key, disable, enable, register, save_keys
from state.git.commits import Author
from state.git.publish import publish
from state.git.repository import Repository
from state.reading.problems import StateInvalidError
from state.trust.walk import RevisionRefusedError, begin, signature_in_words, walk
from tests.unit.state.keyring import ed25519
from tests.unit.state.state_files import files, server_yaml, user_yaml
from tests.unit.state.workshop import Workshop, signers_yaml


@pytest.fixture
def shop(tmp_path: Path) -> Workshop:
    """A fleet whose first commit is by the admin alice; `iam` signs for the page."""
    made = Workshop.open(tmp_path)
    made.write(files())
    fleet = "format: 1\n# ours\n" + signers_yaml(
        alice=made.key("alice"), bert=made.key("bert"), iam=made.key("iam")
    )
    made.commit("alice", {"fleet.yaml": fleet}, "Begin")
    return made


def refused(shop: Workshop, verified: str, tip: str = "") -> str:
    with pytest.raises(RevisionRefusedError) as caught:
        walk(shop.repository, verified, tip or shop.head)
    assert caught.value.hint
    return f"{caught.value.code}: {caught.value.message}"


def signers(shop: Workshop, verified: str) -> list[str]:
    return [judged.signer.name for judged in walk(shop.repository, verified, shop.head).commits]


def apply(shop: Workshop, edit: Edit, signer: str | None) -> str:
    """Commit `edit` as the software does, in a bare clone, and bring it here."""
    bare = shop.folder.with_name("bare.git")
    if not bare.exists():
        shop.git("clone", "-q", "--bare", str(shop.folder), str(bare))
    shop.git("push", "-q", "-f", str(bare), "HEAD:main")
    clone = Repository.clone(str(bare), shop.folder.with_name("clone.git"))
    key = None if signer is None else shop.key_file(signer)
    publish(clone, edit, Author("A Person", "a@b"), key)
    shop.git("pull", "-q", "--ff-only", str(bare), "main")
    return shop.head


def test_what_everybody_may(shop: Workshop) -> None:
    first = shop.head
    apply(shop, add_key("ann", ed25519("n")), "iam")
    apply(shop, save_keys("eve", "Eve", "id", [ed25519("eve")]), "iam")
    shop.commit(
        "bert", {"README.md": "theirs", "servers/gpu19.yaml": server_yaml("gpu19", "1.2.3.4")}
    )
    apply(shop, register("gpu19", "eve", ed25519("h")), "iam")
    apply(shop, disable("ann"), "iam")
    apply(shop, enable("ann"), "iam")
    shop.commit("alice", message="empty")
    expected = ["iam", "iam", "bert", "iam", "iam", "iam", "alice"]
    assert signers(shop, first) == expected
    assert [j.signer.name for j in begin(shop.repository, shop.head).commits] == [
        "alice",
        *expected,
    ]
    assert walk(shop.repository, shop.head, shop.head).commits == ()


def test_a_few_programs_walk_any_way(
    shop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = shop.head
    for number in range(5):
        shop.commit("alice", {"README.md": f"{number}\n"}, "More")
    trace = tmp_path / "trace"
    monkeypatch.setenv("GIT_TRACE", str(trace))
    assert len(walk(shop.repository, first, shop.head).commits) == 5
    begun = re.findall(r"trace: built-in: git (\S+)", trace.read_text())
    fleet = ["ls-tree", "cat-file"]
    assert [name for name in begun if name != "version"] == [  # of which GitPython's import asks
        "rev-list", "cat-file", "diff-tree", *fleet]  # fmt: skip


def test_an_author_is_only_a_claim(shop: Workshop) -> None:
    first = shop.head
    shop.commit("bert", {"README.md": "x"}, "Claim", GIT_AUTHOR_NAME="Alice\x1b[2J")
    (judged,) = walk(shop.repository, first, shop.head).commits
    assert (judged.commit.author, judged.signer.name) == ("Alice�[2J", "bert")
    shop.commit("iam", {"README.md": "y"}, "Claim\x1b", GIT_AUTHOR_NAME="Alice")
    assert "'Claim�' by Alice: signed by iam, which may not write 'README.md'" in refused(
        shop, first
    )
    assert "signed by bert (admin), SHA256:" in signature_in_words(
        shop.repository, judged.commit.revision
    )


def test_unsigned(shop: Workshop) -> None:
    first, short = shop.head, shop.commit(None, {"README.md": "x"}, "Slip in")[:10]
    assert (
        refused(shop, first) == f"revision-unsigned: {short} 'Slip in' by Somebody: it is unsigned."
    )
    shop.commit("alice", {"README.md": "fine again"})
    assert "revision-unsigned" in refused(shop, first)


def test_stranger(shop: Workshop) -> None:
    first = shop.head
    shop.commit("mallory", {"README.md": "x"})
    text = refused(shop, first)
    assert f"signed by a stranger, ssh-ed25519 {shop.key('mallory').fingerprint}" in text
    assert "Who may sign is alice (admin), bert (admin) and iam (iam)" in text


def test_a_stranger_who_makes_himself_a_signer(shop: Workshop) -> None:
    first = shop.head
    fleet = "format: 1\n" + signers_yaml(mallory=shop.key("mallory"), iam=shop.key("iam"))
    shop.commit("mallory", {"fleet.yaml": fleet})
    assert "revision-stranger" in refused(shop, first)


def test_a_signature_of_another_commit(shop: Workshop) -> None:
    first = shop.head
    good = shop.git("cat-file", "commit", shop.commit("alice", {"README.md": "x"})) + "\n"
    path = shop.folder.with_name("forged")
    path.write_text(good.replace("\n\nChange", "\n\nChanged"))
    forged = shop.git("hash-object", "-t", "commit", "-w", str(path))
    assert "its signature is of another text" in refused(shop, first, forged)


IAM_ATTACKS: Mapping[str, tuple[Mapping[str, str | None], str]] = {
    "server": ({"servers/gpu17.yaml": server_yaml("gpu18", "9.9.9.9")}, "may not change servers"),
    "new server": ({"servers/gpu9.yaml": server_yaml("x", "9.9.9.9")}, "may not change servers"),
    "comment": ({"servers/gpu17.yaml": server_yaml("gpu17", "172.16.2.17") + "# hi\n"},
                "may not write 'servers/gpu17.yaml'"),
    "uid": ({"users/ann.yaml": user_yaml(0, "Ann Example", "Ann", str(ed25519("ann", "ann@home")))
             .replace("20000", "20009")}, "may not change somebody's numbers (ann: uid"),
    "deletion": ({"users/ann.yaml": None}, "may not delete anybody's file"),
    "README": ({"README.md": "x"}, "may not write 'README.md'"),
    "hook": ({"hooks/pre-receive": "#!/bin/sh"}, "may not write 'hooks/pre-receive'"),
    "workflow": ({".github/workflows/x.yaml": "x"}, "may not write '.github/workflows/x.yaml'"),
    "odd name": ({"users/Ann.yaml": "x: 1"}, "'users/Ann.yaml': the name `Ann`"),
    "newline": ({"users/a\nb.yaml": "x: 1"}, "can't be read"),
    "oversized": ({"users/eve.yaml": "#" * 70_000}, "the file is larger than 64 KiB"),
    "unknown field": ({"registrations/gpu17/ann.yaml":
        f"host_key: {ed25519('ann@gpu17')}\ncolour: red\n"}, "unknown field `colour`"),
    "mount": ({"registrations/gpu17/ann.yaml": f"host_key: {ed25519('ann@gpu17')}\nmounts:\n"
               "  - source: /root\n    target: /mnt\n"},
              "may not change `mounts` of a registration"),
    "limits": ({"registrations/gpu17/ann.yaml": f"host_key: {ed25519('ann@gpu17')}\nlimits:\n"
                "  memory: 900T\n"}, "may not change `limits` of a registration"),
    "bad yaml": ({"users/eve.yaml": "&a [*a]"}, "can't be read"),
}  # fmt: skip


@pytest.mark.parametrize("attack", IAM_ATTACKS)
def test_the_pages_key_stolen(shop: Workshop, attack: str) -> None:
    first = shop.head
    changed, expected = IAM_ATTACKS[attack]
    revision = shop.commit("iam", changed, "Help")
    assert expected in refused(shop, first)
    assert f"revision-role: {revision[:10]} 'Help' by Somebody: signed by iam" in refused(
        shop, first
    )
    shop.git("revert", "--no-edit", "HEAD", ok=False)
    shop.commit("alice", message="hides nothing")
    assert revision[:10] in refused(shop, first)


def test_the_pages_key_and_the_signers(shop: Workshop) -> None:
    first = shop.head
    shop.commit("iam", shop.replaced("fleet.yaml", "role: iam", "role: admin"))
    assert "may not change who signs (fleet: remove signer iam (iam)" in refused(shop, first)


@pytest.mark.parametrize("kind", ["link", "submodule"])
def test_no_links_or_submodules_by_the_page(shop: Workshop, kind: str) -> None:
    first = shop.head
    if kind == "submodule":
        (shop.folder / ".gitmodules").write_text('[submodule "s"]\npath=users/e.yaml\nignore=all\n')
        link = f"160000,{first},users/eve.yaml"
        shop.git("update-index", "--add", "--cacheinfo", link)
        shop.git(*shop.signing("iam"), "commit", "-qm", "x")
    else:
        (shop.folder / "users/ann.yaml").unlink()
        (shop.folder / "users/ann.yaml").symlink_to("/etc/passwd")
        shop.commit("iam")
    assert "must be a plain file, no link or submodule" in refused(shop, first)


def test_fleet_yaml_must_stay_readable_in_every_commit(shop: Workshop) -> None:
    first, text = shop.head, shop.text("fleet.yaml")
    shop.commit("alice", {"fleet.yaml": "format: 1\nports: 7\n"})
    shop.commit("alice", {"fleet.yaml": text})
    assert "revision-unreadable" in refused(shop, first)
    shop.git("reset", "-q", "--hard", first)
    (shop.folder / "fleet.yaml").unlink()
    (shop.folder / "fleet.yaml").symlink_to("README.md")
    shop.commit("alice")
    assert "fleet.yaml is missing, or no plain file" in refused(shop, first)


def test_admins_may_stumble_where_the_page_may_not_go_on(shop: Workshop) -> None:
    first, text = shop.head, shop.text("users/ann.yaml")
    shop.commit("alice", {"users/ann.yaml": "oops"})
    broken = shop.head
    shop.commit("alice", {"users/ann.yaml": text})
    apply(shop, add_key("ann", ed25519("n")), "iam")
    assert signers(shop, first) == ["alice", "alice", "iam"]
    shop.git("reset", "-q", "--hard", broken)
    shop.commit("iam", {"users/ann.yaml": text.replace("20000", "20005")})
    assert "may not change a state that can't be read" in refused(shop, first)


def test_a_revoked_key_that_forked_and_merged_the_newest_tip(shop: Workshop) -> None:
    """bert keeps a branch from before he is revoked, merges main *into* it, and pushes that."""
    first = shop.head
    fork = shop.commit("bert", {"README.md": "the fork"})
    shop.git("reset", "-q", "--hard", first)
    fleet = "format: 1\n" + signers_yaml(alice=shop.key("alice"), iam=shop.key("iam"))
    verified = shop.commit("alice", {"fleet.yaml": fleet}, "Revoke bert")
    shop.git("checkout", "-q", fork)
    shop.git(*shop.signing("bert"), "merge", "-q", "--no-ff", "-s", "ours", verified, "-m", "Merge")
    assert shop.repository.is_ancestor(verified, shop.head)  # Git calls that a fast-forward
    assert "revision-rewound" in refused(shop, verified)


def test_a_merge_counts_as_its_own_change(shop: Workshop) -> None:
    """What a branch by strangers contains is the merge's change, judged by who signed the merge."""
    first = shop.head
    shop.git("checkout", "-q", "-b", "work")
    shop.commit(None, {"servers/gpu17.yaml": server_yaml("gpu17", "9.9.9.9")})
    shop.git("checkout", "-q", "main")
    shop.commit("alice", {"README.md": "moved on"})
    shop.git(*shop.signing("alice"), "merge", "-q", "--no-ff", "work", "-m", "Merge")
    assert signers(shop, first) == ["alice", "alice"]
    shop.git("reset", "-q", "--hard", "HEAD^")
    shop.git(*shop.signing("iam"), "merge", "-q", "--no-ff", "work", "-m", "Merge")
    assert "which may not change servers (gpu17: address" in refused(shop, first)


def test_a_merge_that_hides_a_change(shop: Workshop) -> None:
    """Neither parent has it; `git log -p` doesn't show it; the walk does."""
    first = shop.head
    shop.git("checkout", "-q", "-b", "work")
    apply(shop, add_key("ann", ed25519("n")), "iam")
    shop.git("checkout", "-q", "main")
    apply(shop, add_key("lqchen", ed25519("m")), "iam")
    shop.git(*shop.signing("iam"), "merge", "-q", "--no-ff", "--no-commit", "work")
    shop.commit("iam", {"servers/gpu17.yaml": server_yaml("gpu17", "9.9.9.9")}, "Merge")
    assert "which may not change servers (gpu17: address" in refused(shop, first)


def test_rewinding_and_rewriting(shop: Workshop) -> None:
    first = shop.head
    second = shop.commit("alice", {"README.md": "x"})
    assert "revision-rewound" in refused(shop, second, first)
    shop.git("reset", "-q", "--hard", first)
    other = shop.commit("alice", {"README.md": "y"})
    assert "revision-rewound" in refused(shop, second, other)
    assert "revision-rewound" in refused(shop, "0" * 40, other)
    shop.git("checkout", "-q", "--orphan", "fresh")
    assert "revision-rewound" in refused(shop, first, shop.commit("alice"))


def test_new_keys_for_admins_and_the_page(shop: Workshop) -> None:
    first = shop.head
    keys = {"alice": shop.key("alice"), "bert": shop.key("bert"), "iam": shop.key("iam")}

    def change(by: str, **names: str | None) -> None:
        for name, key in names.items():
            keys.pop(name, None)
            keys.update({name: shop.key(key)} if key else {})
        shop.commit(by, {"fleet.yaml": "format: 1\n" + signers_yaml(**keys)})

    change("alice", alice2="alice-new")  # the old key lets the new one in,
    change("alice-new", alice=None)  # and the new one removes the old
    change("bert", bert=None)  # somebody may remove their own,
    change("alice-new", bert="bert-new")  # and another admin lets a lost one's owner in again
    change("bert-new", iam="iam-new")  # the page's: in one commit
    apply(shop, add_key("ann", ed25519("n")), "iam-new")
    assert signers(shop, first) == ["alice", "alice2", "bert", "alice2", "bert", "iam"]
    good = shop.head
    for old in ("alice", "bert", "iam"):
        shop.commit(old, {"users/ann.yaml": user_yaml(0, "Ann", "Ann")})
        assert "revision-stranger" in refused(shop, first)
        shop.git("reset", "-q", "--hard", good)


def test_the_last_admin_stays(shop: Workshop) -> None:
    first = shop.head
    shop.commit("alice", {"fleet.yaml": "format: 1\n" + signers_yaml(iam=shop.key("iam"))})
    assert "without an admin: nobody could change it any more" in refused(shop, first)


def test_an_admin_reverts_an_old_commit_of_the_page(shop: Workshop) -> None:
    first = shop.head
    old = apply(shop, save_keys("eve", "Eve", None, [ed25519("eve")]), "iam")
    apply(shop, add_key("ann", ed25519("n")), "iam")
    shop.git(*shop.signing("alice"), "revert", "--no-edit", old)
    assert signers(shop, first) == ["iam", "iam", "alice"]


def test_configuration_and_attributes_hide_nothing(shop: Workshop) -> None:
    first = shop.head
    shop.commit("alice", {".gitattributes": "* -diff binary\n"})
    shop.commit("iam", {"servers/gpu17.yaml": server_yaml("gpu17", "9.9.9.9")})
    shop.git("config", "diff.ignoreSubmodules", "all")
    shop.git("config", "gpg.program", "/bin/true")
    shop.git("config", "gpg.ssh.program", "/bin/true")
    shop.git("config", "diff.noprefix", "true")
    assert "may not change servers" in refused(shop, first)
    shop.git("replace", shop.head, first)
    assert "may not change servers" in refused(shop, first, shop.git("rev-parse", "HEAD"))


def test_a_first_commit_names_who_signed_it(shop: Workshop, tmp_path: Path) -> None:
    assert [j.signer.name for j in begin(shop.repository, shop.head).commits] == ["alice"]
    for signer, code in ((None, "unsigned"), ("mallory", "stranger"), ("iam", "role")):
        shop.git("checkout", "-q", "--orphan", f"by-{signer}")
        shop.commit(signer)
        with pytest.raises(RevisionRefusedError) as caught:
            begin(shop.repository, shop.head)
        assert caught.value.code == f"revision-{code}"
    shop.git("checkout", "-q", "--orphan", "broken")
    shop.commit("alice", {"users/ann.yaml": "x"})
    with pytest.raises(StateInvalidError):
        begin(shop.repository, shop.head)


def test_how_many_a_round_may_disable(shop: Workshop) -> None:
    first = shop.head
    shop.commit("alice", message="Term is over\n\nAllow-Disable: 12")
    shop.commit("bert", message="More\n\nWhy: so\nallow-disable: 30 ")
    shop.commit("alice", message="Allow-Disable: 99")
    shop.commit("alice", message="x\n\nAllow-Disable: 98\n\nnot at the end")
    shop.commit("alice", message="x\n\nAllow-Disable: 97 people\nAllow-Disable: -5")
    apply(shop, Edit(disable("ann").apply, "Allow-Disable: 500"), "iam")
    assert walk(shop.repository, first, shop.head).allow_disable == 30
    assert walk(shop.repository, shop.head, shop.head).allow_disable == 0
