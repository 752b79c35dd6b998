"""Who may change what, by the meaning of the change."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from state.edits.edit import Edit
from state.edits.users import (
    add_key,
    disable,
    enable,
    follow_logins,
    register,
    remove_key,
    rename_person,
    save_keys,
)
from state.model.documents import Server, Signer, State, User
from state.reading.load import load
from state.trust.policy import judge, role_needed
from tests.unit.state.keyring import ed25519
from tests.unit.state.state_files import files, state

ADMIN = state().fleet.signers[0]
IAM = Signer(name="IAM", role="iam", key=ed25519("iam"))


def ann(**fields: object) -> State:
    """The fleet with ann changed, wherever she is."""
    old = state()
    user = old.users["ann"].model_copy(update=fields)
    return replace(old, users={**old.users, "ann": user})


def said(new: State, *paths: str, old: State | None = None) -> str:
    return "; ".join(judge(old or state(), new, IAM, paths))


@pytest.mark.parametrize(
    "edit",
    [
        add_key("ann", ed25519("new")),
        remove_key("ann", ed25519("ann").fingerprint),
        rename_person("ann", "Ann Other"),
        rename_person("ann", "Ann", "ANN"),
        save_keys("eve", "Eve", "id-eve", [ed25519("eve")]),
        save_keys("Bob", "Bob", None, [ed25519("bob2")]),
        save_keys("ann.other", "Ann", "6d1f0000-0000", [ed25519("ann")]),
        follow_logins({"ann": "ann.new", "bob": "bob.new"}),
        register("gpu18", "ann", ed25519("h")),
        register("gpu17", "ann", ed25519("h")),
        disable("ann"),
        enable("bob"),
    ],
)
def test_what_researchers_ask_of_the_page(edit: Edit) -> None:
    new = edit.apply(state())
    assert new != state()
    assert judge(state(), new, IAM, ["users/ann.yaml", "registrations/gpu18/ann.yaml"]) == ()
    assert judge(state(), new, ADMIN) == ()
    assert judge(state(), new, None) == ("isn't a signer here",)
    assert role_needed(state(), new, (), (IAM, ADMIN)) == "iam"


def test_a_directory_id_is_noted_once() -> None:
    unknown = ann(directory_id=None)
    known = ann(directory_id="6d1f0000-0000")
    assert said(known, old=unknown) == ""
    assert "may not change who somebody is" in said(ann(directory_id="other"), old=known)
    assert "may not change who somebody is" in said(unknown, old=known)


@pytest.mark.parametrize("field", ["uid", "port", "subid"])
@pytest.mark.parametrize("move", [False, True])
def test_nobodys_numbers_change_not_even_on_the_way_out(field: str, move: bool) -> None:
    new = ann(**{field: getattr(state().users["ann"], field) + 40})
    if move:
        new = disable("ann").apply(new)
    assert f"may not change somebody's numbers (ann: {field}" in said(new)
    assert role_needed(state(), new, (), (IAM, ADMIN)) == "admin"


def test_an_account_goes_to_no_other_login() -> None:
    without = ann(directory_id=None)
    other = replace(
        without,
        users={
            **without.users,
            "ann": without.users["ann"].model_copy(update={"login": "mallory"}),
        },
    )
    assert "may not give an account to another login" in said(other, old=without)
    both = ann(login="mallory", directory_id="id-of-mallory")
    assert "another login" in said(both)


@pytest.mark.parametrize("numbers", [(20004, 22003, 3), (20003, 22004, 3), (20003, 22003, 4)])
def test_new_users_take_the_next_numbers(numbers: tuple[int, int, int]) -> None:
    old = state()
    uid, port, place = numbers
    eve = User(name="Eve", login="eve", uid=uid, port=port, subid=10_000_000 + place * 262_144)
    text = said(replace(old, users={**old.users, "eve": eve}))
    assert text.startswith("may not choose numbers: eve has uid")
    assert "next are 20003, 22003, 10786432" in text


def test_several_new_users_one_after_the_other() -> None:
    new = state()
    for name in ("zoe", "eve", "max"):
        new = save_keys(name, name, None, [ed25519(name)]).apply(new)
    assert said(new) == ""
    swapped = replace(new, users={**new.users, "zoe": new.users["eve"], "eve": new.users["zoe"]})
    assert said(swapped) == ""  # whose numbers are whose is not settled before


def test_new_users_begin_in_users() -> None:
    new = save_keys("eve", "Eve", None, [ed25519("eve")]).apply(state())
    assert "may not make users of another kind" in said(disable("eve").apply(new))


def server() -> Server:
    return state().servers["gpu17"]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda s: replace(s, servers={**s.servers, "gpu17": server().model_copy(
            update={"template": "evil"})}), "may not change servers (gpu17: template"),
        (lambda s: replace(s, servers={"gpu17": server()}), "may not change servers (server gpu18"),
        (lambda s: replace(s, servers={**s.servers, "gpu17": server().model_copy(
            update={"idle_days": 1})}), "may not change servers (gpu17: idle_days none -> 1"),
        (lambda s: replace(s, servers={**s.servers, "gpu17": server().model_copy(
            update={"devices": ("/dev/kvm",)})}), "may not change servers (gpu17: devices"),
        (lambda s: replace(s, registrations={"gpu17": {"ann": s.registrations["gpu17"]["ann"]
            .model_copy(update={"devices": ("/dev/kvm",)})}}),
            "may not change `devices` of a registration"),
        (lambda s: replace(s, servers={**s.servers, "gpu19": server()}), "may not change servers"),
        (lambda s: replace(s, fleet=s.fleet.model_copy(update={"signers": (ADMIN, IAM)})),
            "may not change who signs (fleet: add signer IAM (iam)"),
        (lambda s: replace(s, fleet=s.fleet.model_copy(update={"nameservers": ("1.1.1.1",)})),
            "may not change what holds for the whole fleet"),
        (lambda s: replace(s, users={}), "may not delete anybody's file (ann's file is deleted)"),
        (lambda s: replace(s, former={}), "may not delete anybody's file (bob's file is deleted)"),
        (lambda s: replace(s, registrations={}), "may not remove registrations (ann: registration"),
        (lambda s: replace(s, registrations={"gpu99": s.registrations["gpu17"]}),
            "may not register on a server that isn't there"),
    ],
)  # fmt: skip
def test_what_the_pages_key_may_not(change: Callable[[State], State], expected: str) -> None:
    assert expected in said(change(state()))
    assert judge(state(), change(state()), ADMIN) == ()


@pytest.mark.parametrize(
    "path",
    ["README.md", "hooks/pre-receive", ".github/workflows/check.yaml", "users/.gitkeep", "users",
     "users/a/b.yaml", "fleet.yaml", "servers/gpu17.yaml", "x\ny"],
)  # fmt: skip
def test_files_that_are_no_business_of_the_page(path: str) -> None:
    assert f"may not write {path!r}" in said(state(), path)
    assert judge(state(), state(), ADMIN, [path]) == ()


def test_somebody_must_remain_who_may_change_things() -> None:
    none = load({**files(), "fleet.yaml": b"format: 1\n"})
    assert judge(state(), none, ADMIN) == (
        "may not leave the fleet without an admin: nobody could change it any more",
    )


def test_no_numbers_left_is_no_reason_to_choose_some() -> None:
    small = load(
        {**files(), "fleet.yaml": files()["fleet.yaml"] + b"uids: {first: 20000, last: 20002}\n"}
    )
    eve = User(name="E", login="e", uid=20009, port=22009, subid=10_000_000 + 9 * 262_144)
    new = replace(small, users={**small.users, "eve": eve})
    assert "may not make the user eve (No number is left" in said(new, old=small)
