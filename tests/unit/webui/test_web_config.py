"""What setup/web-server writes is what the web page reads."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pytest

from webui import config as page

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "setup"))
from installation import web_config


def written(*words: str) -> page.WebConfig:
    parser = argparse.ArgumentParser()
    web_config.add_options(parser)
    options = parser.parse_args(words)
    assert web_config.missing(options) == []
    return page.parse(web_config.text(options), "web.toml")


OPENLDAP = (
    *("--public-url", "https://iam.mylab.com", "--ldap-url", "ldap://ldap1.mylab.com"),
    *("--ldap-url", "ldaps://ldap2.mylab.com", "--ldap-base", "dc=mylab,dc=com"),
    *("--allow", "(objectClass=inetOrgPerson)"),
)


def test_openldap_with_a_service_account() -> None:
    words = ("--ldap-bind-dn", "cn=iam,dc=mylab,dc=com", "--ldap-password-file", "/root/secret")
    config = written(*OPENLDAP, *words, "--ldap-ca", "/root/ca.pem", "--organisation", 'A "Lab" ü')
    assert config.organisation == 'A "Lab" ü'
    assert config.directory.servers == ("ldap://ldap1.mylab.com", "ldaps://ldap2.mylab.com")
    assert config.directory.bind_password_file == Path("/etc/lxc-gpu/ldap-password")
    assert config.directory.ca_file == Path("/etc/lxc-gpu/ldap-ca.pem")
    assert config.directory.starttls
    assert not config.behind_proxy


def test_active_directory_with_nested_groups() -> None:
    group = "CN=GPU users,OU=Groups,DC=mylab,DC=com"
    words = ("--active-directory", "--ldap-bind-template", "{login}@mylab.com")
    config = written(*OPENLDAP, *words, "--allow-group", group)
    directory = config.directory
    assert (directory.login_attribute, directory.id_attribute) == ("sAMAccountName", "objectGUID")
    assert directory.nested == "active-directory"
    assert directory.allow_groups == (group,)


def test_what_is_needed_the_first_time_is_named() -> None:
    parser = argparse.ArgumentParser()
    web_config.add_options(parser)
    assert web_config.missing(parser.parse_args([])) == [
        "--public-url",
        "--ldap-url",
        "--ldap-base",
        "--allow",
    ]


@pytest.mark.parametrize(
    "piece", ["nginx.conf", "sshd.conf", "lxc-gpu-web.service", "lxc-gpu-web.socket"]
)
def test_the_pieces_are_there(piece: str) -> None:
    assert (Path(web_config.__file__).parents[1] / "web" / piece).read_text()
