"""What the web machine's doctor makes of answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from state.model.documents import Fleet, State, User
from state.model.keys import parse_key
from webui.config import DirectoryConfig
from webui.doctor.__main__ import findings
from webui.doctor.directory_servers import why_down
from webui.doctor.login import conditions, named
from webui.doctor.page import expiry
from webui.doctor.repository import gate_finding

KEY = parse_key("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAICksGFWxceR+jU7ob6NmGGtrsHQ4yyZdCVrHd79h9vUW")
CONFIG = DirectoryConfig(
    servers=("ldap://ldap.mylab.com",),
    base="dc=mylab,dc=com",
    allow="(objectClass=person)",
    bind_dn="cn=iam,dc=mylab,dc=com",
    bind_password_file=Path("/etc/lxc-gpu/ldap-password"),
)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("(a=1)", ["(a=1)"]),
        ("(&(a=1)(b=2))", ["(a=1)", "(b=2)"]),
        ("(&(a=1)(|(b=2)(c=3)))", ["(a=1)", "(|(b=2)(c=3))"]),
        ("(&(a=1)(&(b=2)(!(c=3))))", ["(a=1)", "(b=2)", "(!(c=3))"]),
        ("(|(a=1)(b=2))", ["(|(a=1)(b=2))"]),
        (" (&) ", ["(&)"]),
    ],
)
def test_the_parts_of_a_rule(text: str, parts: list[str]) -> None:
    assert conditions(text) == parts


@pytest.mark.parametrize(
    ("details", "word", "hint"),
    [
        ("the service account cn=iam was refused: invalidCredentials", "refuses", "ldapwhoami"),
        ("bind_password_file: [Errno 13] Permission denied", "password can't be read", "ls -l"),
        ("ldap://x: startTLS failed - unavailable", "TLS fails", "certificate"),
        ("ldap://x: LDAPOperationsErrorResult - 1 - operationsError", "let us search", "rights"),
        ("ldap://x: LDAPStrongerAuthRequiredResult - 8", "only over TLS", "starttls"),
        ("ldap://x: LDAPBusyResult - 51 - busy - None", "can't serve now", "asks the others"),
        ("ldap://x: socket connection error: Connection refused", "doesn't answer", "Is it up"),
    ],
)  # fmt: skip
def test_why_a_directory_is_of_no_use(details: str, word: str, hint: str) -> None:
    text, advice = why_down(details, "ldap://ldap.mylab.com", CONFIG)
    assert word in text
    assert hint in advice


def test_a_login_and_the_name_that_goes_with_it() -> None:
    chen = User(name="Lequn Chen", login="LQChen", uid=20000, port=22000, subid=10**7, keys=(KEY,))
    state = State(Fleet(format=1), users={"lqchen": chen}, former={"bob": chen.model_copy(
        update={"login": "bob"})})  # fmt: skip
    url = "https://iam"
    assert "is the user lqchen: 1 key, not registered" in named(state, "lqchen", url).text
    assert "is the former user" in named(state, "Bob", url).text
    assert "would become the user lequn-chen2" in named(state, "Lequn.Chen2", url).text
    assert "would become the user bob2" in named(state, "bob@elsewhere", url).text
    assert named(state, "ann", url, allowed=False).text == "isn't a user of the fleet"


def test_an_account_that_was_made_anew_is_another_persons() -> None:
    numbers = {"uid": 20000, "port": 22000, "subid": 10**7}
    chen = User(name="Lequn Chen", login="LQChen", directory_id="a1", keys=(KEY,), **numbers)
    state = State(Fleet(format=1), users={"lqchen": chen})
    assert named(state, "lqchen", "", found="A1").level == "ok"
    assert "is the user lqchen" in named(state, "renamed", "", found="a1").text
    again = named(state, "lqchen", "", found="b2")
    assert again.level == "wrong"
    assert "directory_id: b2" in again.hint


def test_the_gates_keys() -> None:
    assert gate_finding("a\nb\n", "a\nb\n", "/g").level == "ok"
    assert "1 missing, 1 stale" in gate_finding("a\nx\n", "a\nb\n", "/g").text


def test_a_certificate_that_ends_soon() -> None:
    certificate = {"notAfter": "Nov 30 00:00:00 2026 GMT"}
    assert expiry(certificate, 1795000000 - 40 * 86400).level == "ok"
    assert expiry(certificate, 1795000000).level == "note"


def test_a_configuration_that_can_t_be_used_is_a_finding(tmp_path: Path) -> None:
    file = tmp_path / "web.toml"
    file.write_text('listen = "nowhere"\n')
    (found,) = findings(file, None)
    assert found.level == "wrong"
    assert "listen" in found.text
    (missing,) = findings(tmp_path / "none.toml", None)
    assert "can't be read" in missing.text
