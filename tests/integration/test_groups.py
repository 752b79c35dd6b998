"""Who is in the groups of a real Active Directory (Samba): by primary groups, too."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ldap3
import pytest

from state.errors import LxcGpuError
from state.model.documents import User
from tests.integration import active_directory
from tests.integration.active_directory import BASE, GROUPS, Domain
from tests.integration.test_active_directory import config
from tests.integration.web import make_web, with_directory
from tests.present import present
from webui.directory import searches
from webui.directory.ldap import Directory
from webui.directory.transport.connections import DirectoryDownError, NotAllowedError
from webui.doctor.iam import Iam
from webui.doctor.login import judged

DOMAIN_USERS = f"CN=Domain Users,CN=Users,{BASE}"
GUESTS = f"CN=Domain Guests,CN=Users,{BASE}"


@pytest.fixture(scope="module")
def domain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Domain]:
    with active_directory.running(tmp_path_factory.mktemp("domain")) as domain:
        domain.add_person("dora", "Dora Example", "swiper no swiping")
        gus = domain.add_person("gus", "Gus Guest", "let me in")
        domain.modify(GUESTS, member=gus)
        domain.modify(gus, primaryGroupID="514")  # its relative id (MS-DTYP 2.4.2.4)
        with domain.administrator() as root:
            root.modify(DOMAIN_USERS, {"member": [(ldap3.MODIFY_DELETE, [gus])]})  # type: ignore[no-untyped-call]
        domain.add_group("in-between", DOMAIN_USERS)
        domain.add_group("outermost", f"CN=in-between,{GROUPS}")
        domain.add_group("empty")
        yield domain


@pytest.fixture(params=["active-directory", "follow"])
def let_in(request: pytest.FixtureRequest, domain: Domain) -> Callable[..., set[str]]:
    """The people that these groups let in, by a login and by the refresh: both must agree."""

    def let_in(*groups: str) -> set[str]:
        found = config(domain, allow_groups=groups, nested=request.param)
        directory = Directory(found)
        users = {name: User(name=name, login=name, **NUMBERS) for name in PASSWORDS}
        refreshed = {name for name, each in directory.look_up_all(users).items() if not each.gone}
        logins = {name for name in PASSWORDS if _gets_in(directory, name)}
        assert logins == refreshed
        return logins

    return let_in


NUMBERS: dict[str, Any] = {"port": 22000, "subid": 10_000_000, "uid": 20000}
PASSWORDS = {"dora": "swiper no swiping", "gus": "let me in"}


def _gets_in(directory: Directory, login: str) -> bool:
    try:
        return directory.authenticate(login, PASSWORDS[login]).login == login
    except NotAllowedError:
        return False


@pytest.mark.parametrize(
    "group",
    [
        DOMAIN_USERS,
        f"cn=domain users, cn=users,{BASE.lower()}",
        f"CN=in-between,{GROUPS}",
        f"CN=outermost,{GROUPS}",
    ],
)
def test_a_primary_group_counts_and_so_do_the_groups_that_hold_it(
    let_in: Callable[..., set[str]], group: str
) -> None:
    assert let_in(group) == {"dora"}


def test_the_primary_group_is_each_persons_own(let_in: Callable[..., set[str]]) -> None:
    assert let_in(GUESTS) == {"gus"}
    assert let_in(f"CN=empty,{GROUPS}") == set()
    assert let_in(f"CN=empty,{GROUPS}", DOMAIN_USERS) == {"dora"}


@pytest.mark.parametrize("nested", ["active-directory", "follow"])
def test_past_weeks_know_primary_groups_and_groups_in_groups(domain: Domain, nested: str) -> None:
    users = {name: User(name=name, login=name, **NUMBERS) for name in PASSWORDS}
    groups = {
        "Users": DOMAIN_USERS,
        "Outer": f"CN=outermost,{GROUPS}",
        "Guests": GUESTS,
        "Empty": f"CN=empty,{GROUPS}",
    }
    found = Directory(config(domain, nested=nested)).groups_of(users, groups)
    assert found == {"dora": ("Outer", "Users"), "gus": ("Guests",)}
    missing = {"Gone": f"CN=gone,{GROUPS}"}
    with pytest.raises(LxcGpuError, match="The directory has no group CN=gone"):
        Directory(config(domain, nested=nested)).groups_of(users, missing)


def test_an_answer_of_several_pages_is_heard_to_the_end(
    let_in: Callable[..., set[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searches, "PAGE", 1)
    assert let_in(DOMAIN_USERS, GUESTS) == {"dora", "gus"}


def test_references_to_other_partitions_are_harmless(
    domain: Domain, let_in: Callable[..., set[str]]
) -> None:
    with domain.administrator() as root:
        root.search(BASE, "(sAMAccountName=dora)", attributes=["cn"])
        assert "searchResRef" in [each["type"] for each in present(root.response)]
    assert let_in(DOMAIN_USERS) == {"dora"}


def test_a_base_that_is_not_there_makes_nobody_gone(domain: Domain) -> None:
    nowhere = Directory(config(domain, base="DC=elsewhere,DC=com"))
    with pytest.raises(DirectoryDownError):
        nowhere.look_up_all({"dora": User(name="dora", login="dora", **NUMBERS)})


@pytest.mark.parametrize("nested", ["active-directory", "follow"])
def test_doctor_tells_the_way_through_the_primary_group(
    domain: Domain, tmp_path: Path, nested: str
) -> None:
    web = make_web(tmp_path, domain, {})

    def said(login: str, **changes: object) -> str:
        changed = with_directory(web, config(domain, nested=nested, **changes))
        return " ".join(each.text for each in judged(Iam(changed.parts.config, login)))

    assert "CN=Domain Users" in said("dora", allow_groups=[DOMAIN_USERS])
    assert "may use the servers" in said("dora", allow_groups=[f"CN=outermost,{GROUPS}"])
    outside = said("gus", allow_groups=[DOMAIN_USERS])
    assert "In none of the groups" in outside
    assert "the primary group is CN=Domain Guests" in outside
    never = said("dora", allow=f"(memberOf={DOMAIN_USERS})", allow_groups=[])
    assert "CN=Domain Users is the primary group, which memberOf never" in never
