"""People log in by a real Active Directory (Samba)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration import active_directory
from tests.integration.active_directory import Domain
from webui.config import DirectoryConfig
from webui.directory.ldap import Directory
from webui.directory.login import ForeignLoginError
from webui.directory.transport.connections import NotAllowedError, WrongLoginError

ACTIVE_DIRECTORY = {
    "base": active_directory.BASE,
    "login_attribute": "sAMAccountName",
    "name_attribute": "displayName",
    "id_attribute": "objectGUID",
    "nested": "active-directory",
    "allow": "(&(objectCategory=person)(!(userAccountControl:1.2.840.113556.1.4.803:=2)))",
    "bind_dn": active_directory.SERVICE_DN,
}
"""As setup/web-server writes them with --active-directory."""


SUFFIX = "people.mylab.com"
"""Of John's principal name. In the domain's own suffix, Samba refuses what Windows lets pass: one
that is jsmith@ while another's login is jsmith."""
BY_DOMAIN = {"bind_template": "MYLAB\\{login}"}
BY_TEMPLATE: dict[str, Any] = {"bind_dn": "", "bind_password_file": None, "allow_groups": []}


@pytest.fixture(scope="module")
def domain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Domain]:
    with active_directory.running(tmp_path_factory.mktemp("domain")) as domain:
        lqchen = domain.add_person("LQChen", "Lequn Chen", "right horse")
        dora = domain.add_person("dora", "Dora Example", "swiper no swiping")
        domain.add_person("outsider", "Out Sider", "let me in")
        domain.modify(f"CN=Partitions,CN=Configuration,{active_directory.BASE}",
                      uPNSuffixes=[SUFFIX, "mylab.org"])  # fmt: skip
        principal = f"jsmith@{SUFFIX}"
        domain.add_person("john.smith", "John Smith", "john's own", userPrincipalName=principal)
        domain.add_person("jsmith", "Jane Smith", "jane's own")
        domain.add_person("jane doe", "Jane Doe", "doe's own")
        domain.add_person("müller", "Max Müller", "max's own")
        domain.add_person("una", "Una Noted", "una's own", userPrincipalName="una@mylab.net")
        vision = domain.add_group("vision-lab", dora)
        domain.add_group("gpu-users", lqchen, vision)
        yield domain


def config(domain: active_directory.Domain, **changes: object) -> DirectoryConfig:
    """The setting of docs/sysadmins/directory.md: a service account, StartTLS, one group."""
    fields = {
        "servers": [domain.plain],
        "ca_file": str(domain.certificates.ca),
        "bind_password_file": str(domain.service_password),
        "allow_groups": [f"CN=gpu-users,{active_directory.GROUPS}"],
        **ACTIVE_DIRECTORY,
        **changes,
    }
    return DirectoryConfig.model_validate(fields)


@pytest.mark.parametrize("way", ["plain", "tls"])
def test_members_get_in_and_groups_in_groups_count(domain: Domain, way: str) -> None:
    directory = Directory(config(domain, servers=[getattr(domain, way)]))
    person = directory.authenticate("lqchen", "right horse")
    assert (person.login, person.full_name) == ("LQChen", "Lequn Chen")
    assert person.mail == "lqchen@mylab.com"
    assert directory.authenticate("dora", "swiper no swiping").login == "dora"


def test_others_stay_outside(domain: Domain) -> None:
    directory = Directory(config(domain))
    with pytest.raises(NotAllowedError):
        directory.authenticate("outsider", "let me in")
    with pytest.raises(WrongLoginError):
        directory.authenticate("lqchen", "wrong horse")


class TestWhoIsBound:
    """A right password says that somebody was bound, not who."""

    @pytest.fixture
    def directory(self, domain: Domain) -> Directory:
        template = f"{{login}}@{SUFFIX}"
        return Directory(config(domain, **BY_TEMPLATE, bind_template=template))

    def test_nobody_becomes_whose_login_their_principal_name_begins_with(
        self, directory: Directory
    ) -> None:
        with pytest.raises(NotAllowedError) as caught:
            directory.authenticate("jsmith", "john's own")
        assert caught.value.code == "login-of-other"
        assert caught.value.hint == "Your login is `john.smith`: type that one."
        assert "bound as CN=John Smith," in caught.value.details

    def test_the_right_one_gets_in_by_the_same_template(
        self, domain: Domain, directory: Directory
    ) -> None:
        assert directory.authenticate("MYLAB\\jsmith", "jane's own").full_name == "Jane Smith"
        usual = config(domain, **BY_TEMPLATE, bind_template="{login}@mylab.com")
        for login in ("jsmith", "jsmith@mylab.com", "MYLAB\\jsmith"):
            person = Directory(usual).authenticate(login, "jane's own")
            assert person.full_name == "Jane Smith"

    def test_with_a_service_account_a_login_is_a_login(self, domain: Domain) -> None:
        directory = Directory(config(domain, allow_groups=[]))
        assert directory.authenticate("jsmith", "jane's own").full_name == "Jane Smith"
        with pytest.raises(WrongLoginError):
            directory.authenticate("jsmith", "john's own")


class TestAsPeopleTypeThem:
    """One person, however the login is typed."""

    @pytest.mark.parametrize(
        ("typed", "password", "login"),
        [
            ("LQCHEN", "right horse", "LQChen"),
            ("lqchen@mylab.com", "right horse", "LQChen"),
            ("LQChen@MyLab.com", "right horse", "LQChen"),
            ("mylab\\lqchen", "right horse", "LQChen"),
            ("jane doe", "doe's own", "jane doe"),
            ("MYLAB\\Jane Doe", "doe's own", "jane doe"),
            ("müller", "max's own", "müller"),
            ("mu\u0308ller", "max's own", "müller"),  # as a Mac takes names apart
            ("MÜLLER@mylab.com", "max's own", "müller"),
            (f"jsmith@{SUFFIX}", "john's own", "john.smith"),
            ("john.smith@mylab.com", "john's own", "john.smith"),
            ("jsmith@mylab.com", "jane's own", "jsmith"),
            ("una@mylab.net", "una's own", "una"),  # a suffix that no partition notes
        ],
    )
    def test_it_is_one_person(self, domain: Domain, typed: str, password: str, login: str) -> None:
        found: list[str] = []

        def told(login: str) -> bool:
            found.append(login)
            return True

        directory = Directory(config(domain, allow_groups=[]))
        assert directory.authenticate(typed, password, told).login == login
        assert found == [login]
        with pytest.raises(WrongLoginError):
            directory.authenticate(typed, "wrong")

    @pytest.mark.parametrize("way", [{}, BY_DOMAIN], ids=["service account", "template as well"])
    def test_another_domain_is_refused_in_words(self, domain: Domain, way: dict[str, Any]) -> None:
        directory = Directory(config(domain, **{"allow_groups": [], **way}))
        with pytest.raises(ForeignLoginError) as caught:
            directory.authenticate("OTHER\\lqchen", "right horse")
        assert caught.value.code == "login-foreign"
        assert caught.value.hint == "Type your login alone, such as `lqchen`."

    def test_a_template_alone_says_of_another_domain_what_may_be(self, domain: Domain) -> None:
        """Nobody is bound then, who could ask which domains there are."""
        directory = Directory(config(domain, **BY_TEMPLATE, **BY_DOMAIN))
        with pytest.raises(WrongLoginError) as caught:
            directory.authenticate("OTHER\\lqchen", "right horse")
        assert "`OTHER` may not be a domain" in caught.value.hint
        assert "perhaps `lqchen` alone" in caught.value.hint

    @pytest.mark.parametrize("name", ["una", "nobody"])
    def test_a_suffix_that_is_noted_nowhere_may_be_somebody_s(
        self, domain: Domain, name: str
    ) -> None:
        with pytest.raises(WrongLoginError) as caught:
            Directory(config(domain, allow_groups=[])).authenticate(f"{name}@mylab.net", "wrong")
        assert caught.value.code == "login-wrong"
        assert "`mylab.net` isn't a domain" in caught.value.hint
        assert f"perhaps `{name}` alone" in caught.value.hint

    @pytest.mark.parametrize("typed", ["lqchen@mylab.org", "nobody@mylab.org", "MYLAB\\lqchen"])
    def test_what_to_type_depends_on_no_one_s_existence(self, domain: Domain, typed: str) -> None:
        with pytest.raises(WrongLoginError) as caught:
            Directory(config(domain, allow_groups=[])).authenticate(typed, "wrong")
        name = "nobody" if "nobody" in typed else "lqchen"
        assert caught.value.code == "login-wrong"
        assert f"; perhaps `{name}` alone. If" in caught.value.hint


def test_who_has_an_id_is_found_under_another_login(domain: Domain) -> None:
    directory = Directory(config(domain, allow_groups=[]))
    dn = domain.add_person("renamee", "Rena Mee", "rena's own")
    person = directory.authenticate("renamee", "rena's own")
    renamed = {"sAMAccountName": "rena.new", "userPrincipalName": "rena.new@mylab.com"}
    domain.modify(domain.rename(dn, "Rena New"), **renamed)
    domain.add_person("renamee", "New Comer", "new one's own")
    assert directory.login_of(person.directory_id or "") == "rena.new"
    assert directory.authenticate("renamee", "new one's own").directory_id != person.directory_id
    assert directory.login_of("00112233-4455-6677-8899-aabbccddeeff") == ""
