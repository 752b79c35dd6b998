"""People say which mail they want, and mail goes where they say."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from werkzeug.test import TestResponse

from tests.integration import slapd
from tests.integration.forms import ANN, get, save
from tests.integration.slapd import Slapd
from tests.integration.web import Web
from webui.application import assemble, build
from webui.config import MailConfig
from webui.doctor.iam import Iam
from webui.doctor.mail import NO_MAIL, mail, reachable
from webui.outbox.letters import KINDS


def wish(web: Web, *kinds: str, page: str = "lqchen", **fields: str) -> TestResponse:
    typed = {"login": "LQChen", "password": "right horse", "shown": "yes", "kind": [*kinds]}
    typed |= fields
    return web.app.test_client().post(f"/user/{page}/mail", data=typed)


def wished(web: Web, page: str = "lqchen") -> set[str]:
    """What has a mark, for who typed the password."""
    shown = wish(web, page=page, shown="").get_data(as_text=True)
    return set(re.findall(r'value="([a-z-]+)" checked', shown))


def test_everybody_says_which_mail_they_want(web: Web) -> None:
    save(web)
    assert "/user/lqchen/mail" in get(web, "/user/lqchen")
    every = {kind.value for kind in KINDS}
    assert wished(web) == every
    answer = wish(web, "idle", "gpus-free", "will-stop", "x")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/user/lqchen/mail?saved=yes")
    assert wished(web) == {"idle", "gpus-free"}
    assert "Saved." in get(web, answer.headers["Location"])
    stopped = web.parts.sending.preferences.stopped("lqchen")
    assert {kind.value for kind in stopped} == every - {"idle", "gpus-free"}
    assert web.app.test_client().get("/user/LQChen/mail").headers["Location"] == "/user/lqchen/mail"


def test_which_mail_somebody_wants_and_has_no_address_for_is_theirs_to_know(
    web: Web, directory: Slapd
) -> None:
    save(web)
    wish(web, "gpus-free")
    mails = MailConfig.model_validate({"host": "mail.example.org", "from": "gpu@example.org"})
    config = web.parts.config.model_copy(update={"mail": mails})
    parts = assemble(config)
    web = replace(web, app=build(config, parts), parts=parts)
    slapd.modify(directory, "Lequn Chen", mail="nowhere")
    try:
        web.parts.refresher.refresh()
        strangers = [wish(web, shown="", password="wrong"), wish(web, shown="", **ANN)]
        assert [answer.status_code for answer in strangers] == [403, 422]
        said = [answer.get_data(as_text=True) for answer in strangers]
        for page in (get(web, "/user/lqchen/mail"), get(web, "/user/lqchen"), *said):
            assert "gpus-free" not in page
            assert "no usable mail address for you" not in page
        assert "no usable mail address for you" in wish(web, shown="").get_data(as_text=True)
        assert wished(web) == {"gpus-free"}
    finally:
        slapd.modify(directory, "Lequn Chen", mail="lqchen@example.org")


@pytest.mark.parametrize(
    ("fields", "status", "said"),
    [
        ({"password": "wrong"}, 403, "wrong"),
        ({"login": "ann", "password": "ann's own"}, 422, "this is the page of lqchen"),
        ({"login": ""}, 403, "wrong"),
        ({"page": "nobody"}, 404, "There is no such login"),
        ({"page": "<b>"}, 404, "There is no such login"),
    ],
)
def test_nobody_says_it_for_another(
    web: Web, fields: dict[str, Any], status: int, said: str
) -> None:
    save(web)
    answer = wish(web, **fields)
    assert answer.status_code == status
    assert said in answer.get_data(as_text=True)
    assert web.parts.sending.preferences.stopped("lqchen") == frozenset()


def test_guessing_at_wishes_is_slowed_down_as_at_keys(web: Web) -> None:
    save(web)
    answers = [wish(web, password=f"guess {n}") for n in range(12)]
    assert answers[-1].status_code == 429
    assert "Retry-After" in answers[-1].headers


def test_the_address_of_a_newcomer_is_known_at_once(web: Web) -> None:
    web.parts.refresher.refresh()
    assert web.parts.refresher.addresses() == {}
    save(web)
    assert web.parts.refresher.addresses() == {"lqchen": "lqchen@example.org"}


def test_addresses_come_from_the_directory(web: Web) -> None:
    save(web)
    assert web.parts.refresher.addresses() is None
    web.parts.refresher.refresh()
    assert web.parts.refresher.addresses() == {"lqchen": "lqchen@example.org"}
    assert "No mail server is configured" in get(web, "/user/lqchen/mail")


def test_the_doctor_says_who_has_no_address(web: Web, directory: Slapd) -> None:
    save(web)
    found = web.parts.directory.look_up_all(web.parts.source.newest().state.users)
    assert "all 1 users have an address" in reachable(found, "mail").text
    bad = {**found, "ann": replace(found["lqchen"], mail="ann@x.org\nBcc: all@x.org")}
    assert "1 of 2 users have no usable address" in reachable(bad, "mail").text
    texts = [finding.text for finding in mail(Iam(web.parts.config))]
    assert texts == [NO_MAIL]
