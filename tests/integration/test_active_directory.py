"""People log in by a real Active Directory (Samba)."""

from __future__ import annotations

import pytest

from tests.integration import active_directory
from webui.config import DirectoryConfig
from webui.directory.connections import NotAllowedError, WrongLoginError
from webui.directory.ldap import Directory

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


@pytest.fixture(scope="module")
def domain(tmp_path_factory):
    with active_directory.running(tmp_path_factory.mktemp("domain")) as domain:
        lqchen = domain.add_person("LQChen", "Lequn Chen", "right horse")
        dora = domain.add_person("dora", "Dora Example", "swiper no swiping")
        domain.add_person("outsider", "Out Sider", "let me in")
        vision = domain.add_group("vision-lab", dora)
        domain.add_group("gpu-users", lqchen, vision)
        yield domain


def config(domain: active_directory.Domain, **changes: object) -> DirectoryConfig:
    """As the guide recommends: by a service account, over StartTLS, for one group."""
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
def test_members_get_in_and_groups_in_groups_count(domain, way):
    directory = Directory(config(domain, servers=[getattr(domain, way)]))
    person = directory.authenticate("lqchen", "right horse")
    assert (person.login, person.full_name) == ("LQChen", "Lequn Chen")
    assert person.mail == "lqchen@mylab.com"
    assert directory.authenticate("dora", "swiper no swiping").login == "dora"


def test_others_stay_outside(domain):
    directory = Directory(config(domain))
    with pytest.raises(NotAllowedError):
        directory.authenticate("outsider", "let me in")
    with pytest.raises(WrongLoginError):
        directory.authenticate("lqchen", "wrong horse")
