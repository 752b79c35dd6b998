"""Who is gone from the directory, and what follows: as little as possible."""

from __future__ import annotations

import pytest

from state.edits.many_users import disable_all, follow_names
from tests.unit.state.state_files import state
from webui.config import DirectoryConfig
from webui.directory.entries import LdapEntry, primary_group, search_for
from webui.directory.lookup import LookupResult
from webui.directory.vanished import Decision, VanishedRule, decide

NOW = 1_800_000_000.0
USERS = {**state().users, "carl": next(iter(state().users.values()))}
HERE = {name: LookupResult(user.name) for name, user in USERS.items()}
RULE = VanishedRule(disable=True, after=3, most=2)


def refreshed(times: int, found: dict[str, LookupResult], rule: VanishedRule = RULE) -> Decision:
    decision = Decision()
    for at in range(times):
        decision = decide(USERS, found, decision.gone, rule, NOW + at)
    return decision


def test_all_is_well_and_nothing_follows() -> None:
    assert refreshed(5, HERE) == Decision()


def test_who_is_gone_is_listed_at_once_and_disabled_late() -> None:
    found = {**HERE, "ann": LookupResult(gone="there is no such entry")}
    assert refreshed(1, found).disable == ()
    assert list(refreshed(1, found).gone) == ["ann"]
    assert refreshed(2, found).disable == ()
    late = refreshed(3, found)
    assert (late.disable, late.gone["ann"].since, late.gone["ann"].times) == (("ann",), NOW, 3)
    assert refreshed(9, found, VanishedRule(False, 3, 2)).disable == ()


def test_who_is_back_counts_from_the_beginning_again() -> None:
    found = {**HERE, "ann": LookupResult(gone="gone")}
    before = decide(USERS, HERE, refreshed(2, found).gone, RULE, NOW)
    assert before.gone == {}
    assert decide(USERS, found, before.gone, RULE, NOW).disable == ()


@pytest.mark.parametrize("most", [1, 100])
def test_a_broken_directory_locks_nobody_out(most: int) -> None:
    gone = {name: LookupResult(gone="there is no such entry") for name in USERS}
    held = refreshed(9, gone, VanishedRule(True, 3, most))
    assert held.disable == ()
    assert "know nobody" in held.held
    most_are = {**gone, "carl": HERE["carl"]}
    held = refreshed(9, most_are, VanishedRule(True, 3, 1))
    assert held.disable == ()
    assert "2 people are gone at once" in held.held


def test_names_follow_and_blanks_alone_are_no_change() -> None:
    found = {**HERE, "ann": LookupResult("Ann  Example"), "lqchen": LookupResult("Lequn C. Chen")}
    assert refreshed(1, found).renamed == {"lqchen": "Lequn C. Chen"}
    assert refreshed(1, {**HERE, "ann": LookupResult("")}).renamed == {}
    assert refreshed(1, {**HERE, "ann": LookupResult("Ann E.", gone="locked")}).renamed == {}


def test_one_edit_for_all_and_one_odd_name_stops_nobody() -> None:
    old = state()
    new = follow_names({"ann": "Ann E.", "nobody": "Who", "lqchen": "L. Chen"}).apply(old)
    assert (new.users["ann"].name, new.users["lqchen"].name) == ("Ann E.", "L. Chen")
    edit = disable_all(["ann", "bob", "nobody"], "why")
    left = edit.apply(old)
    assert set(left.users) == {"lqchen"}
    assert edit.message(old, left) == "ann leaves\n\nwhy"


def test_what_is_asked_is_escaped() -> None:
    names = DirectoryConfig(servers=("ldaps://x",), base="dc=x", allow="(uid=*)")
    assert search_for(names, "a*)(uid=*", None) == r"(uid=a\2a\29\28uid=\2a)"
    guid = names.model_copy(update={"id_attribute": "objectGUID"})
    text = search_for(guid, "ann", "00112233-4455-6677-8899-aabbccddeeff")
    assert r"(objectGUID=\33\22\11\00\55\44\77\66\88\99\aa\bb\cc\dd\ee\ff)" in text
    assert search_for(guid, "ann", "no-guid") == "(uid=ann)"


def test_a_primary_group_is_known_by_the_persons_own_id() -> None:
    sid = bytes.fromhex("01050000000000051500000063d5ef22df37b758518c106256040000")
    attributes = {"objectsid": [sid], "primarygroupid": [b"513"]}
    group = "S-1-5-21-586143075-1488402399-1645251665-513"
    assert primary_group(LdapEntry("cn=x", attributes)) == group
    for odd in (b"", sid[:8], sid[:-1], sid + b"\0\0\0\0"):
        assert primary_group(LdapEntry("cn=x", {**attributes, "objectsid": [odd]})) == ""
    assert primary_group(LdapEntry("cn=x", {"objectsid": [sid]})) == ""
    assert primary_group(LdapEntry("cn=x", {})) == ""
