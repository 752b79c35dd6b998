"""Which name a newcomer's account gets, and that they read it before."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

import pytest

from tests.integration import slapd
from tests.integration.forms import THIRD, commits, get, prefixed, save
from tests.integration.slapd import Slapd
from tests.integration.web import OTHER, Web
from tests.present import present


def test_a_login_that_is_no_name_gets_one(web: Web) -> None:
    answer = save(web, "Lequn.Dot", login="lequn.dot", password="dot-secret", keys=THIRD)
    assert answer.status_code == 303
    assert get(web, "/users") == "lequn-dot\n"
    answer = web.app.test_client().get("/user/Lequn.Dot")
    assert answer.headers["Location"] == "/user/lequn-dot"


def name_in(page: str) -> str:
    """What the page says that a newcomer will be called."""
    found = re.search(r'name="name" value="([^"]*)"', page)
    assert found
    assert f'Its name will be <strong class="mono">{found[1]}</strong>' in page
    return found[1]


@pytest.mark.parametrize(
    ("login", "password", "name"),
    [
        ("Lequn.Dot", "dot-secret", "lequn-dot"),
        ("jane doe", "doe's own", "jane-doe"),
        ("müller", "max's own", "muller"),
    ],
)
def test_a_newcomer_reads_the_name_before_it_is_made(
    web: Web, login: str, password: str, name: str
) -> None:
    client = web.app.test_client()
    found = client.get("/user", query_string={"login": login})
    page = client.get(found.headers["Location"])
    assert page.status_code == 200
    text = page.get_data(as_text=True)
    assert name_in(text) == name
    place = html.unescape(present(re.search(r'action="([^"]*)" method="post"', text))[1])
    typed = {"login": login, "password": password, "keys": THIRD, "name": name}
    assert client.post(place, data=typed).status_code == 303
    assert get(web, "/users") == f"{name}\n"
    assert web.git("show", f"main:users/{name}.yaml").count(f"login: {login}\n") == 1
    again = client.get("/user", query_string={"login": login.upper()})
    assert again.headers["Location"] == f"/user/{name}"


def test_the_name_that_a_newcomer_reads_goes_with_the_prefix_of_accounts(
    web: Web, directory: Slapd
) -> None:
    """pulse-access is an account of the system's."""
    slapd.add(directory, "access", "Ac Cess", "ac's own")
    try:
        prefixed(web, "pulse-")
        name = name_in(get(web, "/user/access"))
        typed = {"login": "access", "password": "ac's own", "keys": THIRD, "name": name}
        assert save(web, "access", **typed).status_code == 303
        assert get(web, "/users") == f"{name}\n" == "access2\n"
    finally:
        slapd.delete(directory, "Ac Cess")


def test_another_name_than_the_one_that_was_shown_is_agreed_on_first(web: Web) -> None:
    refused = save(web, "someone-else", name="someone-else")
    page = refused.get_data(as_text=True)
    assert refused.status_code == 422
    assert "Your account will get another name than this page said: <code>lqchen</code>." in page
    assert commits(web) == 1
    assert save(web, "someone-else", name=name_in(page)).status_code == 303
    assert get(web, "/users") == "lqchen\n"


class TestAnOldLoginOfSomebodyElse:
    """Renamee got another login in the directory, and a newcomer got the old one."""

    @pytest.fixture
    def renamed(self, web: Web, directory: Slapd) -> Iterator[None]:
        slapd.add(directory, "renamee", "Rena Mee", "rena's own")
        mine = {"login": "renamee", "password": "rena's own", "keys": OTHER}
        assert save(web, "renamee", **mine).status_code == 303
        slapd.modify(directory, "Rena Mee", uid="rena.new")
        slapd.add(directory, "renamee", "New Comer", "new one's own")
        yield
        slapd.delete(directory, "Rena Mee")
        slapd.delete(directory, "New Comer")

    @pytest.mark.parametrize("saved", [True, False], ids=["who saved since", "who did not"])
    def test_the_newcomer_is_led_to_an_account_of_their_own(
        self, web: Web, renamed: None, saved: bool
    ) -> None:
        if saved:
            by_new_login = {"login": "rena.new", "password": "rena's own", "keys": OTHER}
            assert save(web, "renamee", **by_new_login).status_code == 303
        newcomer = {"login": "renamee", "password": "new one's own", "keys": THIRD}
        page = save(web, "renamee", **newcomer).get_data(as_text=True)
        assert "This is the page of renamee, who isn&#39;t you" in page
        assert "Its name will be <code>renamee2</code>" in page
        link = re.search(r'href="([^"]*)">Go to my page<', page)
        assert link
        own = get(web, html.unescape(link[1]))
        assert name_in(own) == "renamee2"
        assert 'name="login" value="renamee"' in own
        assert save(web, "renamee2", name="renamee2", **newcomer).status_code == 303
        assert get(web, "/users") == "renamee\nrenamee2\n"
        assert get(web, "/user/renamee2/.ssh/authorized_keys") == f"{THIRD}\n"
        assert get(web, "/user/renamee/.ssh/authorized_keys") == f"{OTHER}\n"
        assert "login: rena.new\n" in web.git("show", "main:users/renamee.yaml")
        assert ">login <span" in get(web, "/user/renamee")
        found = web.app.test_client().get("/user?login=renamee")
        assert found.headers["Location"] == "/user/renamee2"
