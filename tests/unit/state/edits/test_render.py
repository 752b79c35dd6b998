"""Writing what differs, and saying it: files to the letter, changes in words."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from state.edits.changes import LEAVES, NEW, REMOVED, RETURNS, describe
from state.edits.edit import Edit
from state.edits.render import render, touched, write
from state.edits.subject_line import message
from state.edits.users import (
    add_key,
    disable,
    enable,
    register,
    remove_key,
    rename_person,
    save_keys,
    set_keys,
)
from state.model.documents import Signer, State, User
from state.reading.load import dump, load
from state.reading.syntax import BadYamlError, parse
from tests.unit.state.keyring import ed25519
from tests.unit.state.state_files import files, state

ONE, TWO, THREE = (ed25519(n, f"key {n}") for n in (1, 2, 3))
PEER = f"""\
# him and nobody else

name: "Ann Example"   # full name
uid:   20000
login: Ann
port: 22000
subid: 10000000
keys:     # his
    # the old one
    - {ONE}   # at home
    # the new one

    - '{TWO}'
# the end
"""


def edited(text: str, edit: Edit) -> str:
    given = files(users__ann=text)
    old = load(given)
    new = edit.apply(old)
    changed = render(old, new, given)
    assert set(changed) == {"users/ann.yaml"}
    assert touched(old, new) == ("users/ann.yaml",)
    content = changed["users/ann.yaml"]
    assert content is not None
    assert load({**given, "users/ann.yaml": content}).users == new.users
    return content.decode()


def test_a_word_changes_and_nothing_else() -> None:
    assert edited(PEER, rename_person("ann", "Ann B")) == PEER.replace('"Ann Example"', "Ann B")


def test_a_field_is_added_in_its_place() -> None:
    new = edited(PEER, save_keys("Ann", "Ann Example", "id-1", [ONE, TWO]))
    assert new == PEER.replace("login: Ann\n", "login: Ann\ndirectory_id: id-1\n")


def test_keys_come_and_go_and_comments_stay() -> None:
    assert edited(PEER, add_key("ann", THREE)) == PEER.replace(
        f"'{TWO}'\n", f"'{TWO}'\n    - {THREE}\n"
    )
    assert edited(PEER, remove_key("ann", ONE.fingerprint)) == PEER.replace(
        f"    - {ONE}   # at home\n", ""
    )
    new = edited(PEER, set_keys("ann", [THREE]))
    assert new.startswith(PEER[: PEER.index("    # the old")])
    for comment in ("# the old one", "# the new one", "# the end", "# his"):
        assert comment in new
    none = edited(PEER, set_keys("ann", []))
    assert "# the old one" in none
    assert "# the end" in none
    assert "keys" not in parse(none.encode())


def test_a_first_key_makes_the_list() -> None:
    text = PEER[: PEER.index("keys:")]
    assert edited(text, add_key("ann", ONE)) == f"{text}keys:\n  - {ONE}\n"
    assert edited(f"{text}keys: []  # none\n", add_key("ann", ONE)).endswith(f"keys:\n  - {ONE}\n")
    assert edited(text.rstrip("\n"), add_key("ann", ONE)).endswith(f"  - {ONE}\n")


def test_lists_in_brackets_and_crlf_are_edited_too() -> None:
    flow = PEER[: PEER.index("keys:")] + f"keys: ['{ONE}', '{TWO}']\n# the end\n"
    new = edited(flow, remove_key("ann", TWO.fingerprint))
    assert new.endswith(f"keys:\n  - {ONE}\n# the end\n")
    dos = PEER.replace("\n", "\r\n")
    assert edited(dos, rename_person("ann", "B")) == dos.replace('"Ann Example"', "B")


def test_a_file_in_one_pair_of_brackets_is_written_anew() -> None:
    flow = "{name: Ann, uid: 20000, login: Ann, port: 22000, subid: 10000000}\n"
    assert edited(flow, rename_person("ann", "Ann B")).startswith("name: Ann B\nlogin: Ann\n")


def test_defaults_that_are_written_out_stay() -> None:
    given = files()
    given["fleet.yaml"] += b"network: 10.77.0.0/16  # ours\n"
    old = load(given)
    signer = Signer(name="IAM", role="iam", key=THREE)
    fleet = old.fleet.model_copy(update={"signers": (*old.fleet.signers, signer)})
    content = render(old, replace(old, fleet=fleet), given)["fleet.yaml"]
    assert content is not None
    assert b"network: 10.77.0.0/16  # ours\n" in content
    assert b"# who may sign\n" in content
    assert load({**given, "fleet.yaml": content}).fleet == fleet


def test_moved_files_keep_their_text() -> None:
    given = files(users__ann=PEER)
    old = load(given)
    gone = disable("ann").apply(old)
    moved = render(old, gone, given)
    assert moved == {"users/ann.yaml": None, "former/ann.yaml": PEER.encode()}
    assert touched(old, gone) == ("users/ann.yaml",)
    back = render(gone, enable("ann").apply(gone), {"former/ann.yaml": PEER.encode()})
    assert back == {"former/ann.yaml": None, "users/ann.yaml": PEER.encode()}


def test_new_files_are_pretty() -> None:
    old = state()
    new = save_keys("Zoé.X", "Zoé", "id-1", [ONE]).apply(old)
    assert render(old, new, {}) == {
        "users/zoe-x.yaml": (
            "name: Zoé\nlogin: Zoé.X\ndirectory_id: id-1\nuid: 20003\nport: 22003\n"
            f"subid: 10786432\nkeys:\n  - {ONE}\n"
        ).encode()
    }


def test_nothing_changed_is_nothing_written() -> None:
    assert render(state(), state(), files()) == {}
    whole = render(None, state(), {})
    assert load({path: text for path, text in whole.items() if text is not None}) == state()


people = st.text(st.characters(codec="utf-8", exclude_characters=":"), min_size=1, max_size=20)


@settings(max_examples=150)
@given(people, st.text(max_size=20), st.lists(st.integers(1, 6), max_size=4, unique=True))
def test_whatever_is_written_reads_back(name: str, login: str, keys: list[int]) -> None:
    old = load(files(users__ann=PEER))
    ann = old.users["ann"]
    texts = (name, login, *(f"a {login}" for _ in keys))
    if not all(text.isprintable() and text.strip() == text and text for text in texts):
        return
    fields = {"name": name, "login": login, "keys": [ed25519(n, f"a {login}"[:99]) for n in keys]}
    user = User.model_validate({**dict(iter(ann)), **fields})
    for before in (None, PEER.encode()):
        content = write(user, before)
        assert dump(User.model_validate(parse(content))) == dump(user)
        if before is not None:
            assert content.count(b"#") >= 4


@settings(max_examples=150)
@given(st.text(st.sampled_from("ab: -#'\"\n[]{},|>"), max_size=40))
def test_any_layout_is_edited_or_written_anew(noise: str) -> None:
    text = f"name: Ann\nlogin: Ann\nuid: 20000\nport: 22000\nsubid: 10000000\n{noise}\n".encode()
    try:
        if parse(text).keys() - User.model_fields.keys():
            return
    except BadYamlError:
        return
    user = User(name="B", login="c: d", uid=20000, port=22000, subid=10_000_000, keys=(ONE,))
    assert dump(User.model_validate(parse(write(user, text)))) == dump(user)


def words(edit: Edit) -> list[str]:
    old = state()
    return [str(change) for change in describe(old, edit.apply(old))]


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (add_key("ann", ONE), [f"ann: add SSH key {ONE.fingerprint} (key 1)"]),
        (
            remove_key("ann", ed25519("ann").fingerprint),
            [f"ann: remove SSH key {ed25519('ann').fingerprint} (ann@home)"],
        ),
        (
            set_keys("ann", [ed25519("ann", "new")]),
            [f"ann: SSH key {ed25519('ann').fingerprint} is now called new"],
        ),
        (
            save_keys("eve", "Eve", None, [ONE]),
            [
                "new user eve (Eve): uid 20003, port 22003",
                f"eve: add SSH key {ONE.fingerprint} (key 1)",
            ],
        ),
        (disable("lqchen"), ["lqchen leaves"]),
        (enable("bob"), ["bob returns"]),
        (rename_person("ann", "B"), ["ann: name Ann Example -> B"]),
        (register("gpu18", "ann", ONE), ["ann: register on gpu18"]),
        (
            register("gpu17", "ann", ONE),
            [f"ann on gpu17: ssh host key {ed25519('ann@gpu17').fingerprint} -> {ONE.fingerprint}"],
        ),
        (set_keys("ann", state().users["ann"].keys), []),
    ],
)
def test_changes_in_words(edit: Edit, expected: list[str]) -> None:
    assert words(edit) == expected


def kinds(old: State | None, new: State) -> set[tuple[str, str, str]]:
    return {(c.subject_kind, c.subject, c.field) for c in describe(old, new)}


def test_changes_in_types() -> None:
    old = state()
    assert kinds(old, old) == set()
    assert kinds(old, disable("ann").apply(old)) == {("user", "ann", LEAVES)}
    assert kinds(old, enable("bob").apply(old)) == {("user", "bob", RETURNS)}
    new = save_keys("eve", "Eve", None, [ONE]).apply(old)
    assert kinds(old, new) == {("user", "eve", NEW), ("user", "eve", "keys")}
    assert kinds(new, old) == {("user", "eve", REMOVED)}
    assert ("registration", "gpu17/ann", NEW) in kinds(None, old)
    assert ("fleet", "", NEW) in kinds(None, old)
    fewer = replace(old, servers={"gpu17": old.servers["gpu17"]}, registrations={})
    assert kinds(old, fewer) == {
        ("server", "gpu18", REMOVED),
        ("registration", "gpu17/ann", REMOVED),
        ("registration", "gpu17/bob", REMOVED),
    }


def test_every_field_of_the_fleet_and_of_servers_is_seen() -> None:
    old = state()
    given = files()
    given["fleet.yaml"] = b"format: 1\nnameservers: [1.1.1.1]\nnetwork: 10.80.0.0/16\n"
    given["servers/gpu17.yaml"] = given["servers/gpu17.yaml"].replace(
        b"172.16.2.17", b"172.16.2.27"
    )
    assert [str(change) for change in describe(old, load(given))] == [
        "fleet: network 10.77.0.0/16 -> 10.80.0.0/16",
        "fleet: nameservers none -> 1.1.1.1",
        f"fleet: remove signer Root Admin (admin), {ed25519('admin').fingerprint} (root@desk)",
        "gpu17: address 172.16.2.17 -> 172.16.2.27",
    ]


def test_messages() -> None:
    old = state()
    assert message(describe(old, disable("ann").apply(old))) == "ann leaves"
    two = disable("lqchen").apply(disable("ann").apply(old))
    assert message(describe(old, two)) == "ann leaves; lqchen leaves"
    assert message(()) == "nothing changed"
    long = save_keys("eve", "Eve", None, [ONE, TWO]).apply(old)
    subject, blank, *lines = message(describe(old, long)).split("\n")
    assert subject == "new user eve (Eve): uid 20003, port 22003"
    assert blank == ""
    assert len(lines) == 3
    assert Edit(lambda s: s, "by hand").message(old, long).endswith("\n\nby hand")


def test_a_subject_sums_up_and_hides_nothing() -> None:
    old = state()
    three = set_keys("lqchen", [ONE, TWO]).apply(old)
    subject, _, *lines = message(describe(old, three)).split("\n")
    assert subject == "lqchen: 2 keys added, 2 removed"
    assert len(lines) == 4
    both = rename_person("lqchen", "Lequn C. Chen, who has a rather long name").apply(three)
    assert message(describe(old, both)).startswith("lqchen: full name, 2 keys added, 2 removed\n")
    many = old
    for number in range(20):
        many = save_keys(f"user-{number}", "Somebody", None, [ed25519(number)]).apply(many)
    subject = message(describe(old, many)).split("\n")[0]
    assert subject.startswith("40 changes: user-0, user-1, user-10")
    assert subject.endswith(", ...")
    assert len(subject) <= 72
    renamed = old
    for name in ("ann", "lqchen"):
        renamed = rename_person(name, "A new and rather long name for somebody").apply(renamed)
    assert message(describe(old, renamed)).startswith("2 full names: ann, lqchen\n")
