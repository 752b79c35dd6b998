"""web.toml: what it may say, and what people read when it says something else."""

from __future__ import annotations

from pathlib import Path

import pytest

from webui.config import ConfigError, parse, read

GOOD = """
public_url = "https://iam.mylab.com/"
repository = "/var/lib/lxc-gpu/state.git"
clone = "/var/lib/lxc-gpu/web-clone"
signing_key = "/etc/lxc-gpu/keys/signing"
nudge_key = "/etc/lxc-gpu/keys/nudge"
[directory]
servers = ["ldaps://ldap.mylab.com"]
base = "dc=mylab,dc=com"
allow = "(memberOf=cn=gpu,ou=groups,dc=mylab,dc=com)"
"""


def test_little_needs_to_be_said() -> None:
    config = parse(GOOD, "web.toml")
    assert (config.host, config.port) == ("127.0.0.1", 8080)
    assert config.public_url == "https://iam.mylab.com"
    assert config.directory.starttls


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('allow = "(mem', '# allow = "(mem', "`directory.allow` is missing"),
        (
            '"(memberOf=cn=gpu,ou=groups,dc=mylab,dc=com)"',
            '"(memberOf"',
            "directory.allow: isn't an",
        ),
        ('"(memberOf=cn=gpu,ou=groups,dc=mylab,dc=com)"', '""', "directory.allow: isn't an"),
        ("ldaps://ldap", "https://ldap", "directory.servers, entry 1: must look like ldaps://"),
        ("ldaps://ldap.mylab.com", "ldaps://ldap.mylab.com/dc=x", "the base goes into `base`"),
        ("base =", "bsae =", "unknown field `directory.bsae` (did you mean `base`?)"),
        ("https://iam", "iam", "public_url: must look like https://"),
        ("[directory]", 'listen = "80"\n[directory]', "listen: must look like 127.0.0.1:8080"),
        ("[directory]", 'proxies = ["10.0.0.1", "its name"]\n[directory]', "proxies, entry 2: "),
        ("[directory]", "connections_per_address = 1\n[directory]", "connections_per_address: "),
        ("[directory]", '[directory]\nbind_dn = "cn=x"', "bind_dn needs bind_password_file"),
        ("[directory]", '[directory]\nbind_template = "uid=x"', "must hold {login}"),
        ("[directory]", "[directory", "web.toml: "),
        (
            "[directory]",
            "[usage.groups]\nVision = 'vision'\n[directory]",
            "Vision: isn't a DN such",
        ),
        ("[directory]", "[usage.groups]\nOthers = 'cn=x'\n[directory]", "other than `others`"),
        ("[directory]", "[usage.groups]\n'a;b' = 'cn=x'\n[directory]", "usage.groups.a;b"),
    ],
)
def test_every_mistake_is_named_with_its_place(old: str, new: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(GOOD.replace(old, new), "web.toml")
    assert said in caught.value.message
    assert "web.toml: " in caught.value.message


def test_all_mistakes_are_named_at_once() -> None:
    bad = GOOD.replace("base =", "bsae =").replace("https://iam", "iam")
    with pytest.raises(ConfigError) as caught:
        parse(bad, "web.toml")
    assert len(caught.value.message.splitlines()) == 3


def test_passwords_in_the_clear_need_loud_words() -> None:
    plain = GOOD.replace("ldaps://", "ldap://")
    assert parse(plain, "web.toml").directory.starttls
    off = plain.replace("[directory]", "[directory]\nstarttls = false")
    with pytest.raises(ConfigError, match="dangerously_unencrypted = true"):
        parse(off, "web.toml")
    loud = off.replace("[directory]", "[directory]\ndangerously_unencrypted = true")
    assert parse(loud, "web.toml").directory.dangerously_unencrypted


def test_groups_are_named_and_need_somebody_who_asks() -> None:
    given = GOOD + '[usage]\ngroups = {"Vision" = "cn=vision,ou=groups,dc=mylab,dc=com"}\n'
    assert parse(given, "web.toml").usage.groups == {
        "Vision": "cn=vision,ou=groups,dc=mylab,dc=com"
    }
    template = given.replace("[directory]", '[directory]\nbind_template = "{login}@mylab.com"')
    with pytest.raises(ConfigError, match="need a service account"):
        parse(template, "web.toml")


def test_a_missing_file_says_who_writes_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="setup/web-server"):
        read(tmp_path / "web.toml")


def test_the_history_is_kept_beside_the_clone_for_two_years() -> None:
    config = parse(GOOD, "web.toml")
    assert config.history_path == config.clone.with_name("history.db")
    assert config.history.keep_use_days == 730
    shorter = parse(GOOD + "[history]\nkeep_use_days = 7\npath = '/data/use.db'\n", "web.toml")
    assert str(shorter.history_path) == "/data/use.db"
    with pytest.raises(ConfigError, match=r"history\.keep_use_days"):
        parse(GOOD + "[history]\nkeep_use_days = 1\n", "web.toml")
