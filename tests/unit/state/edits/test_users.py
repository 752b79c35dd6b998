"""Names, numbers and edits: what people ask for, from one state to the next."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from state.edits.allocate import Numbers, RangeUsedUpError, allocate
from state.edits.edit import Edit
from state.edits.users import (
    add_key,
    disable,
    enable,
    follow_logins,
    name_of,
    register,
    remove_key,
    rename_person,
    save_keys,
    set_keys,
)
from state.errors import LxcGpuError
from state.model.documents import NAME, Fleet, Range, State
from state.model.keys import PublicKey
from state.model.names import propose_name
from state.model.reserved import is_reserved
from state.reading.check import check
from state.reading.load import load
from tests.unit.state.keyring import ed25519
from tests.unit.state.state_files import files, state

NEW = ed25519("new", "new@home")


def after(edit: Edit, before: State | None = None) -> State:
    new = edit.apply(before or state())
    assert check(new) == []
    return new


def refused(edit: Edit, before: State | None = None) -> str:
    with pytest.raises(LxcGpuError) as caught:
        edit.apply(before or state())
    assert caught.value.message
    return caught.value.code


@pytest.mark.parametrize(
    ("login", "name"),
    [
        ("LQChen", "lqchen"),
        ("Lequn.Chen", "lequn-chen"),
        ("12345", "u12345"),
        ("ann", "ann"),
        ("ann@example.org", "ann"),
        ("Jürgen Groß", "jurgen-gross"),
        ("_x", "_x"),
        ("-x-", "x"),
        ("--9", "u9"),
        ("李雷", "user2"),
        ("root", "root2"),
        ("ROOT", "root2"),
        ("systemd-x", "u-systemd-x"),
        ("LXC-GPU", "u-lxc-gpu"),
        ("", "user2"),
        ("x" * 40, "x" * 31),
        ("a.", "a"),
    ],
)
def test_proposed_names(login: str, name: str) -> None:
    assert propose_name(login, set()) == name


def test_a_taken_name_gets_a_number() -> None:
    assert propose_name("ann", {"ann", "ann2"}) == "ann3"
    assert propose_name("x" * 40, {"x" * 31}) == "x" * 30 + "2"


def test_a_name_is_proposed_that_makes_an_account_too() -> None:
    assert propose_name("x" * 40, set(), "gpu-") == "x" * 27
    assert propose_name("access", set(), "pulse-") == "access2"
    assert propose_name("ann", {"gpu-ann"}, "gpu-") == "ann2"
    assert propose_name("gpu-ann", {"ann"}, "gpu-") == "gpu-ann2"


@given(
    st.text(max_size=80),
    st.sets(st.sampled_from(["a", "user", "user2", "u1", "ab", "gpu-user"])),
    st.sampled_from(["", "gpu-", "x", "_2345678901234_-"]),
)
def test_every_login_gets_a_valid_free_name(login: str, taken: set[str], prefix: str) -> None:
    name = propose_name(login, taken, prefix)
    for each in (name, f"{prefix}{name}"):
        assert NAME.fullmatch(each)
        assert each not in taken
        assert not is_reserved(each)
    assert name == propose_name(login, taken, prefix)


def test_the_very_first_numbers() -> None:
    assert allocate(State(Fleet(format=1))) == Numbers(20000, 22000, 10_000_000)


def test_no_uid_is_given_with_which_no_container_starts() -> None:
    fleet = Fleet(format=1, uids=Range(first=999_999, last=2_000_000))
    assert allocate(State(fleet)).uid == 999_999
    last = state().users["lqchen"].model_copy(update={"uid": 999_999})
    with pytest.raises(RangeUsedUpError, match="`uids`"):
        allocate(State(fleet, users={"lqchen": last}))


def test_the_smallest_free_numbers_over_everybody() -> None:
    assert allocate(state()) == Numbers(20003, 22003, 10_000_000 + 3 * 262_144)
    without_ann = replace(state(), users={"lqchen": state().users["lqchen"]})
    assert allocate(without_ann) == Numbers(20000, 22000, 10_000_000)


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ("uids: {first: 20000, last: 20002}", "uids"),
        ("ports: {first: 22000, last: 22002}", "ports"),
        ("network: 10.77.0.0/29", "network"),
    ],
)
def test_a_range_that_is_used_up_says_which(line: str, field: str) -> None:
    given = files()
    full = load({**given, "fleet.yaml": given["fleet.yaml"] + line.encode() + b"\n"})
    if field == "network":
        for n in range(2):
            full = after(save_keys(f"n{n}", "N", None, [ed25519(n)]), full)
    with pytest.raises(RangeUsedUpError, match=f"`{field}`"):
        allocate(full)
    assert refused(save_keys("eve", "Eve", None, [NEW]), full) == "range-used-up"


@settings(max_examples=30)
@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.booleans()), max_size=15))
def test_no_number_is_ever_handed_out_twice(steps: list[tuple[str, bool]]) -> None:
    now = state()
    seen: dict[int, str] = {}
    for login, leave in steps:
        name = name_of(now, login)
        if leave and name and name in now.users:
            now = disable(name).apply(now)
        elif not leave:
            now = save_keys(login, login, f"id-{login}", [ed25519(login)]).apply(now)
        for each, user in {**now.users, **now.former}.items():
            assert seen.setdefault(user.uid, each) == each
            assert seen.setdefault(user.port, each) == each
    assert check(now) == []


def test_a_new_person_gets_a_name_numbers_and_keys() -> None:
    new = after(save_keys("Lequn.Chen", "Lequn: Chen\n II", "id-9", [NEW, NEW]))
    user = new.users["lequn-chen"]
    assert (user.name, user.login, user.directory_id) == ("Lequn Chen II", "Lequn.Chen", "id-9")
    assert (user.uid, user.keys) == (20003, (NEW,))
    assert list(new.users) == sorted(new.users)


def test_a_new_person_without_a_full_name_is_called_by_the_name() -> None:
    assert after(save_keys("eve", " \x00 ", None, [NEW])).users["eve"].name == "eve"


def test_a_first_visit_needs_a_key() -> None:
    assert refused(save_keys("eve", "Eve", None, [])) == "no-key"


def test_who_is_here_saves_keys_and_follows_the_directory() -> None:
    new = after(save_keys("LQCHEN", "L. Chen", "6d1f0000-0001", [NEW]))
    old = state().users["lqchen"]
    user = new.users["lqchen"]
    assert (user.login, user.name, user.keys) == ("LQCHEN", "L. Chen", (NEW,))
    assert (user.uid, user.port, user.subid) == (old.uid, old.port, old.subid)
    assert list(new.users) == ["ann", "lqchen"]


def test_the_directory_id_counts_more_than_the_login() -> None:
    new = after(save_keys("ann.married", "Ann M", "6D1F0000-0000", [NEW]))
    assert new.users["ann"].login == "ann.married"
    assert refused(save_keys("lqchen", "Ann", "6d1f0000-0000", [NEW])) == "login-taken"


def test_logins_follow_the_directory_all_at_once() -> None:
    swapped = after(follow_logins({"ann": "lqchen", "lqchen": "ann", "bob": "bob.old"}))
    assert (swapped.users["ann"].login, swapped.users["lqchen"].login) == ("lqchen", "ann")
    assert swapped.former["bob"].login == "bob.old"
    assert refused(follow_logins({"ann": "lqchen"})) == "login-taken"
    before = state()
    assert follow_logins({}).apply(before) is before
    freed = after(follow_logins({"ann": "ann.new"}))
    assert set(after(save_keys("ann", "Ann Other", "other-id", [NEW]), freed).users) == {
        "ann", "ann2", "lqchen"
    }  # fmt: skip


def test_a_new_person_under_an_old_login_is_refused() -> None:
    assert refused(save_keys("ann", "Ann Other", "other-id", [NEW])) == "person-differs"
    assert refused(save_keys("Bob", "Bob Other", "other-id", [NEW])) == "person-differs"


def test_an_unknown_directory_id_is_filled_in_and_never_lost() -> None:
    before = state()
    ann = before.users["ann"].model_copy(update={"directory_id": None})
    before = replace(before, users={**before.users, "ann": ann})
    new = after(save_keys("ann", "Ann", "id-7", [NEW]), before)
    assert new.users["ann"].directory_id == "id-7"
    again = after(save_keys("ann", "Ann", None, [NEW]), new)
    assert again.users["ann"].directory_id == "id-7"


def test_who_had_left_returns_with_the_same_numbers() -> None:
    new = after(save_keys("bob", "Bob Back", "6d1f0000-0002", [NEW]))
    assert "bob" not in new.former
    assert (new.users["bob"].uid, new.users["bob"].keys) == (20002, (NEW,))
    assert "bob" in new.registrations["gpu17"]


def test_what_a_directory_says_is_checked() -> None:
    assert refused(save_keys("a\nb", "X", None, [NEW])) == "bad-person"
    assert refused(save_keys("eve", "X", "bad id!", [NEW])) == "bad-person"


def test_keys() -> None:
    now = after(add_key("ann", NEW))
    assert now.users["ann"].keys == (ed25519("ann"), NEW)
    assert add_key("ann", ed25519("new", "renamed")).apply(now) is now
    now = after(remove_key("ann", ed25519("ann").fingerprint), now)
    assert now.users["ann"].keys == (NEW,)
    assert after(set_keys("ann", []), now).users["ann"].keys == ()
    first, second = state().users["lqchen"].keys
    arranged = after(set_keys("lqchen", [NEW, second, first])).users["lqchen"].keys
    assert arranged == (first, second, NEW)
    renamed = after(set_keys("ann", [ed25519("ann", "other")])).users["ann"].keys
    assert [key.comment for key in renamed] == ["other"]


@pytest.mark.parametrize(
    "key",
    [ed25519("lq1"), ed25519("admin"), ed25519(("gpu17", "host")), ed25519(("gpu18", "state"))],
)
def test_a_key_of_somebody_else_is_refused(key: PublicKey) -> None:
    assert refused(set_keys("ann", [key])) == "key-taken"
    assert refused(save_keys("eve", "Eve", None, [key])) == "key-taken"


def test_too_many_keys() -> None:
    assert refused(set_keys("ann", [ed25519(n) for n in range(51)])) == "too-many-keys"


def test_registering() -> None:
    new = after(register("gpu18", "ann", NEW))
    assert new.registrations["gpu18"]["ann"].host_key == NEW
    assert after(register("gpu17", "ann", NEW)).registrations["gpu17"]["ann"].host_key == NEW
    assert refused(register("gpu99", "ann", NEW)) == "unknown-server"
    assert refused(register("gpu17", "eve", NEW)) == "unknown-user"
    assert refused(register("gpu17", "bob", NEW)) == "user-left"
    assert refused(register("gpu17", "ann", NEW), after(set_keys("ann", ()))) == "user-without-keys"


def test_leaving_and_returning() -> None:
    gone = after(disable("ann"))
    assert "ann" not in gone.users
    assert gone.former["ann"] == state().users["ann"]
    assert disable("ann").apply(gone) is gone
    back = after(enable("ann"), gone)
    assert back.users == state().users
    assert "ann" not in back.former
    assert refused(disable("eve")) == "unknown-user"
    assert refused(enable("eve")) == "unknown-user"
    taken = after(set_keys("lqchen", [ed25519("ann")]), gone)
    assert refused(enable("ann"), taken) == "key-taken"


def test_renaming() -> None:
    assert after(rename_person("ann", "Ann B", "ANN")).users["ann"].login == "ANN"
    assert after(rename_person("ann", "")).users["ann"].name == "Ann Example"
    assert refused(rename_person("ann", "Ann", "LQchen")) == "login-taken"


@pytest.mark.parametrize(
    "edit",
    [
        lambda: set_keys("ann", state().users["ann"].keys),
        lambda: enable("ann"),
        lambda: rename_person("ann", "Ann Example"),
        lambda: register("gpu17", "ann", ed25519("ann@gpu17")),
        lambda: save_keys("Ann", "Ann Example", "6d1f0000-0000", state().users["ann"].keys),
    ],
)
def test_an_edit_that_changes_nothing_leaves_an_equal_state(edit: Callable[[], Edit]) -> None:
    assert edit().apply(state()) == state()
