"""A directory that gives few entries at once, or few at all: half an answer is none."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from state.model.documents import User
from tests.integration import slapd
from tests.integration.slapd import Slapd
from webui.config import DirectoryConfig
from webui.directory import searches
from webui.directory.ldap import Directory
from webui.directory.transport.connections import DirectoryDownError

LOGINS = [f"person{number}" for number in range(8)]
LAST = f"cn=group7,ou=groups,{slapd.BASE}"
ENTRIES = "\n".join(
    [
        *(slapd.person(login, login.title(), "right horse") for login in LOGINS),
        *(
            slapd.group(f"group{number}", f"cn=Person0,ou=people,{slapd.BASE}")
            for number in range(8)
        ),
    ]
)
SLAPD_LIMITS = {
    "pages": "limits users size=3 size.prtotal=unlimited",
    "no more": "limits users size=3",
}
"""slapd.conf(5). Active Directory's MaxPageSize is like the first one."""


@pytest.fixture(autouse=True)
def _small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searches, "PAGE", 3)


@pytest.fixture(scope="module", params=SLAPD_LIMITS)
def limited(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Slapd]]:
    folder = tmp_path_factory.mktemp("slapd")
    with slapd.running(folder, ENTRIES, limits=SLAPD_LIMITS[request.param]) as running:
        yield request.param, running


def directory(server: slapd.Slapd, *groups: str) -> Directory:
    fields = {
        "servers": [server.plain],
        "base": slapd.BASE,
        "allow": "(objectClass=inetOrgPerson)",
        "allow_groups": groups,
        "ca_file": str(server.certificates.ca),
        "bind_dn": slapd.SERVICE_DN,
        "bind_password_file": str(server.service_password),
    }
    return Directory(DirectoryConfig.model_validate(fields))


def test_the_roll_hears_of_everybody_or_of_nobody(limited: tuple[str, Slapd]) -> None:
    limit, server = limited
    numbers: dict[str, Any] = {"port": 22000, "subid": 10_000_000, "uid": 20000}
    users = {login: User(name=login, login=login, **numbers) for login in LOGINS}
    if limit == "pages":
        found = directory(server).look_up_all(users)
        assert [login for login in LOGINS if found[login].gone] == []
    else:
        with pytest.raises(DirectoryDownError) as caught:
            directory(server).look_up_all(users)
        assert "sizeLimitExceeded" in caught.value.details


def test_all_groups_of_somebody_are_looked_at_or_the_login_says_nothing(
    limited: tuple[str, Slapd],
) -> None:
    limit, server = limited
    if limit == "pages":
        found = directory(server, LAST).authenticate("person0", "right horse")
        assert found.login == "person0"
    else:
        with pytest.raises(DirectoryDownError) as caught:
            directory(server, LAST).authenticate("person0", "right horse")
        assert "sizeLimitExceeded" in caught.value.details
