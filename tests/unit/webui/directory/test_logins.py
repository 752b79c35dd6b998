"""Logins as people type them, taken apart."""

from __future__ import annotations

import pytest

from webui.directory.entries import LdapEntry, is_below, parts_of, unescaped
from webui.directory.logins import Domain, Domains, Typed, folded, meant, read, search_for

MYLAB = Domain("DC=mylab,DC=com", "MYLAB", "mylab.com")
CHILD = Domain("DC=child,DC=mylab,DC=com", "CHILD", "child.mylab.com")
DOMAINS = Domains((MYLAB, CHILD), frozenset(["people.mylab.com"]))


@pytest.mark.parametrize(
    ("text", "typed"),
    [
        ("lqchen", Typed("lqchen", "lqchen")),
        ("MYLAB\\lqchen", Typed("MYLAB\\lqchen", "lqchen", domain="MYLAB")),
        ("a@b@mylab.com", Typed("a@b@mylab.com", "a@b", suffix="mylab.com")),
        ("MYLAB\\a@b", Typed("MYLAB\\a@b", "a@b", domain="MYLAB")),
        ("jane doe", Typed("jane doe", "jane doe")),
        ("mu\u0308ller", Typed("müller", "müller")),
        ("lqchen@", Typed("lqchen@", "lqchen@")),
    ],
)
def test_a_login_is_taken_apart(text: str, typed: Typed) -> None:
    assert read(text) == typed


@pytest.mark.parametrize(
    "text",
    ["", " a", "a ", "*", ")(uid=*", "a*", "a,b", "a=b", "a/b", "\\a", "a\\", "a\\b\\c", "-x",
     "@a", "a\x00", "a\nb", "a\N{RIGHT-TO-LEFT OVERRIDE}b", "a\N{NO-BREAK SPACE}b", "x" * 129],
)  # fmt: skip
def test_what_is_no_login_anywhere(text: str) -> None:
    assert read(text) is None


def test_what_is_typed_is_escaped() -> None:
    wanted = search_for("uid", Typed("a(b)&c@d", "a(b)&c", suffix="d"))
    assert wanted.count("(") == wanted.count(")") == 4
    assert r"\28b\29" in wanted


def entry(dn: str, login: str, principal: str = "") -> LdapEntry:
    values = {"samaccountname": [login.encode()], "userprincipalname": [principal.encode()]}
    return LdapEntry(dn, values)


def test_a_domain_of_a_forest_has_its_own_people() -> None:
    here = entry("CN=Ann,OU=people,DC=mylab,DC=com", "ann")
    there = entry("CN=Ann,OU=people,DC=child,DC=mylab,DC=com", "ann")

    def who(text: str) -> list[LdapEntry]:
        typed = read(text)
        assert typed is not None
        return meant([here, there], "sAMAccountName", typed, DOMAINS)

    assert who("ann") == [here, there]
    assert who("mylab\\ann") == who("ann@MyLab.com") == [here]
    assert who("CHILD\\ann") == who("ann@child.mylab.com") == [there]
    assert who("OTHER\\ann") == who("ann@elsewhere.com") == who("ann@people.mylab.com") == []


def test_a_principal_name_counts_before_the_login_that_it_looks_like() -> None:
    john = entry("CN=John,DC=mylab,DC=com", "john.smith", "jsmith@mylab.com")
    jane = entry("CN=Jane,DC=mylab,DC=com", "jsmith", "jane@mylab.com")
    typed = read("jsmith@mylab.com")
    assert typed is not None
    assert meant([jane, john], "sAMAccountName", typed, DOMAINS) == [john]


def test_which_domains_are_of_here() -> None:
    ours = ["lqchen", "MYLAB\\x", "child\\x", "x@mylab.com", "x@PEOPLE.mylab.com"]
    for text in ours:
        assert DOMAINS.know(read(text) or Typed("", "")), text
    for text in ("OTHER\\x", "x@elsewhere.com", "x@com"):
        assert not DOMAINS.know(read(text) or Typed("", "")), text


def test_one_spelling_for_one_name() -> None:
    assert folded(" Jane  DOE ") == "jane doe"
    assert folded("MÜLLER") == folded("muller")
    assert folded("\uff2d\u00fcLLER") == folded("muller")
    assert folded("\u2122") == "tm"


@pytest.mark.parametrize(
    "dn",
    [
        "cn=lequn chen,ou=People,dc=MYLAB",
        "CN = Lequn  Chen , OU=people, dc=mylab",
        r"cn=Lequn\ Chen,ou=people,dc=mylab",
        r"cn=\4Cequn Chen,ou=people,dc=mylab",
    ],
)
def test_one_name_however_it_is_written(dn: str) -> None:
    assert parts_of(dn) == parts_of("CN=Lequn Chen,OU=people,DC=mylab")
    assert is_below(dn, "ou=people, dc=mylab")
    assert is_below(dn, "")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (r"cn=Chen\, Lequn,dc=b", r"cn=Chen\2C Lequn,dc=b"),
        (r"cn=J\C3\B6rg,dc=b", "cn=J\u00f6rg,dc=b"),
        ("cn=Jo\u0308rg,dc=b", "cn=J\u00f6rg,dc=b"),
        (r"cn=a\+b,dc=b", r"cn=a\2bb,dc=b"),
        (r"cn=a\\,dc=b", r"cn=a\5c,dc=b"),
        ("uid=a+cn=b,dc=b", "cn=B + uid=a,dc=b"),
    ],
)
def test_escapes_and_the_order_within_a_part_make_no_other_name(one: str, other: str) -> None:
    """As of RFC 4514."""
    assert parts_of(one) == parts_of(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("cn=a,dc=b", r"cn=a\,dc\=b"),
        ("cn=a+uid=b,dc=c", "cn=a,uid=b,dc=c"),
        ("cn=a,uid=b", "uid=b,cn=a"),
        ("cn=a,dc=b", "cn=a,dc=b,"),
        ("cn=a", "a"),
        (r"cn=\ff", r"cn=\fe"),
        ("cn=a\\", "cn=a"),
        ("", "cn=a"),
    ],
)
def test_other_names_are_other_names(one: str, other: str) -> None:
    assert parts_of(one) != parts_of(other)


def test_what_is_escaped_in_a_filter() -> None:
    assert unescaped(r"J\c3\b6rg \28x\29 \5c2C") == "J\u00f6rg (x) \\2C"
