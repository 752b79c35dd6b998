"""Who logs in to a closed account of a real Active Directory (Samba) learns why."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from state.model.documents import User
from state.wire.findings import Level
from tests.integration import active_directory, slapd
from tests.integration.active_directory import Domain
from tests.integration.test_active_directory import config
from tests.integration.web import KEY, Web, make_web, with_directory
from webui.config import DirectoryConfig
from webui.directory.ldap import Directory
from webui.directory.transport.connections import NotAllowedError, WrongLoginError
from webui.doctor.iam import Iam
from webui.doctor.login import judged

LONG_AGO = "132000000000000000"
NEVER_OPEN = bytes(21)
CLOSED: dict[str, dict[str, Any]] = {
    "account-disabled": {"userAccountControl": 514},
    "account-expired": {"accountExpires": LONG_AGO},
    "password-first": {"pwdLastSet": 0},
    "login-hours": {"logonHours": NEVER_OPEN},
    "login-elsewhere": {"userWorkstations": "SOMEWHERE"},
    "password-expired": {},
}
GONE = {"account-disabled", "account-expired"}
"""What the refresh counts as gone."""


@pytest.fixture(scope="module")
def domain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Domain]:
    with active_directory.running(tmp_path_factory.mktemp("domain")) as domain:
        for code, attributes in CLOSED.items():
            dn = domain.add_person(code, f"Person {code}", "right horse")
            if attributes:
                domain.modify(dn, **attributes)
            else:
                domain.age_password(dn)
        yield domain


@pytest.fixture(params=["service account", "template"])
def directory(request: pytest.FixtureRequest, domain: Domain) -> Directory:
    ways = {"bind_dn": "", "bind_password_file": None, "bind_template": "{login}@mylab.com"}
    return Directory(config(domain, **(ways if request.param == "template" else {})))


def refused(directory: Directory, login: str, password: str) -> WrongLoginError:
    with pytest.raises(WrongLoginError) as caught:
        directory.authenticate(login, password)
    return caught.value


@pytest.mark.parametrize("code", CLOSED)
def test_the_right_password_learns_why_and_a_wrong_one_nothing(
    directory: Directory, code: str
) -> None:
    with pytest.raises(NotAllowedError) as closed:
        directory.authenticate(code, "right horse")
    assert closed.value.code == code
    assert closed.value.message.startswith("Your password is right, but ")
    wrong, unknown = (refused(directory, login, "wrong horse") for login in (code, "nobody-at-all"))
    assert (wrong.code, str(wrong)) == (unknown.code, str(unknown))


def test_a_lock_after_guesses_looks_as_a_wrong_password(
    domain: Domain, directory: Directory
) -> None:
    """Active Directory says it for wrong passwords, too: it would tell which logins exist."""
    domain.add_person("locked", "Lock Ed", "right horse")
    domain.modify(active_directory.BASE, lockoutThreshold="2")
    try:
        for password in ("wrong", "wrong", "wrong", "right horse"):
            last = refused(directory, "locked", password)
        assert "data 775" in last.details
    finally:
        domain.modify(active_directory.BASE, lockoutThreshold="0")
        domain.delete(f"CN=Lock Ed,{active_directory.PEOPLE}")


def test_who_only_needs_a_new_password_is_not_gone(domain: Domain) -> None:
    numbers: dict[str, Any] = {"port": 22000, "subid": 10_000_000, "uid": 20000}
    users = {code: User(name=code, login=code, **numbers) for code in CLOSED}
    rule = {"allow": "(objectCategory=person)", "allow_groups": []}
    found = Directory(config(domain, **rule)).look_up_all(users)
    assert {code for code, each in found.items() if each.gone} == GONE


PASSWORD_POLICY = f"""
dn: cn=policy,{slapd.BASE}
objectClass: applicationProcess
objectClass: pwdPolicy
cn: policy
pwdAttribute: userPassword
pwdMaxAge: 86400
pwdMustChange: TRUE
pwdLockout: TRUE
"""
GRACE = f"""
dn: cn=grace,{slapd.BASE}
objectClass: applicationProcess
objectClass: pwdPolicy
cn: grace
pwdAttribute: userPassword
pwdMaxAge: 86400
pwdGraceAuthNLimit: 3
"""
"""Three logins with an expired password."""
WITH_POLICY = f'overlay ppolicy\nppolicy_default "cn=policy,{slapd.BASE}"\nppolicy_use_lockout'
PASSWORDS = {
    "expired": "pwdChangedTime: 20200101000000Z",
    "reset": "pwdReset: TRUE",
    "locked": "pwdAccountLockedTime: 000001010000Z",
    "well": "",
    "grace": f"pwdChangedTime: 20200101000000Z\npwdPolicySubentry: cn=grace,{slapd.BASE}",
}
OPENLDAP_PERSON = f"cn={{login}},ou=people,{slapd.BASE}"


@pytest.fixture(scope="module", params=["service account", "template"])
def openldap(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Directory]:
    entries = [
        slapd.person(login, login, "right horse", extra=f"employeeType: lab\n{state}\n")
        for login, state in PASSWORDS.items()
    ]
    folder, text = tmp_path_factory.mktemp("slapd"), PASSWORD_POLICY + GRACE + "\n".join(entries)
    with slapd.running(folder, text, "moduleload ppolicy", WITH_POLICY) as server:
        one = {"bind_dn": slapd.SERVICE_DN, "bind_password_file": str(server.service_password)}
        way = one if request.param == "service account" else {"bind_template": OPENLDAP_PERSON}
        fields = {"base": slapd.BASE, "allow": "(employeeType=lab)", "servers": [server.plain]}
        ca = {"ca_file": str(server.certificates.ca)}
        yield Directory(DirectoryConfig.model_validate({**fields, **way, **ca}))


class TestOpenLdap:
    """slapd with its password policy (overlay ppolicy)."""

    @pytest.mark.parametrize(
        ("login", "code"), [("expired", "password-expired"), ("reset", "password-first")]
    )
    def test_the_right_password_learns_why_and_a_wrong_one_nothing(
        self, openldap: Directory, login: str, code: str
    ) -> None:
        with pytest.raises(NotAllowedError) as closed:
            openldap.authenticate(login, "right horse")
        assert closed.value.code == code
        unknown = refused(openldap, "nobody-at-all", "wrong horse")
        assert str(refused(openldap, login, "wrong horse")) == str(unknown)

    def test_a_lock_is_told_to_nobody(self, openldap: Directory) -> None:
        assert str(refused(openldap, "locked", "right horse")) == str(
            refused(openldap, "locked", "wrong horse")
        )

    def test_others_get_in(self, openldap: Directory) -> None:
        assert openldap.authenticate("well", "right horse").login == "well"

    def test_logins_that_are_left_with_an_expired_password_let_in(
        self, openldap: Directory
    ) -> None:
        assert openldap.authenticate("grace", "right horse").login == "grace"


def found(web: Web, login: str) -> dict[str, str]:
    """What `lxc-gpu doctor --login` calls wrong: area and text."""
    findings = judged(Iam(web.parts.config, login))
    return {each.area: each.text for each in findings if each.level is Level.WRONG}


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory, domain: Domain) -> Web:
    made = make_web(tmp_path_factory.mktemp("web"), domain, {})
    return with_directory(made, config(domain, allow="(objectCategory=person)", allow_groups=[]))


@pytest.mark.parametrize(
    ("login", "text"),
    [
        ("account-disabled", "The account is disabled."),
        ("account-expired", "The account has expired."),
        ("password-first", "The password has to be changed before its first use."),
        ("login-hours", "The account may not log in at this hour of the week."),
        ("password-expired", "The password has expired."),
    ],
)
def test_doctor_sees_it_before_a_password_is_typed(web: Web, login: str, text: str) -> None:
    assert found(web, login) == {"account": text}


def test_doctor_finds_whoever_logs_in_by_a_suffix_that_is_noted_nowhere(
    web: Web, domain: Domain
) -> None:
    domain.add_person("una", "Una Noted", "una's own", userPrincipalName="una@mylab.net")
    assert found(web, "una@mylab.net") == {}
    for login in ("nobody@mylab.net", "OTHER\\una"):
        assert "belongs to another domain" in found(web, login)["entry"]


def test_doctor_tells_of_computers_that_might_do(web: Web) -> None:
    findings = judged(Iam(web.parts.config, "login-elsewhere"))
    (note,) = [each.text for each in findings if each.level is Level.NOTE]
    assert note == "The account may log in at certain computers only (SOMEWHERE)."


def test_doctor_sees_that_an_account_was_made_anew(web: Web, domain: Domain) -> None:
    dn = domain.add_person("carl", "Carl Coe", "carl's")
    typed = {"login": "carl", "password": "carl's", "keys": KEY}
    assert web.app.test_client().post("/user/carl", data=typed).status_code == 303
    assert found(web, "carl") == {}
    domain.delete(dn)
    domain.add_person("carl", "Carl Coe", "carl's")
    refused = web.app.test_client().post("/user/carl", data=typed)
    assert "is not the person who has been carl here" in refused.get_data(as_text=True)
    assert "this entry is another person's" in found(web, "carl")["name"]


def test_doctor_sees_why_the_service_account_is_refused(web: Web, domain: Domain) -> None:
    dn = domain.add_person("service2", "Service Two", "service-secret")
    domain.modify(dn, userAccountControl=514)
    changed = web.parts.config.directory.model_copy(update={"bind_dn": dn})
    said = found(with_directory(web, changed), "carl")
    assert (
        "refuses the service account, though its password is right: the account is disabled"
        in said["ldap"]
    )
