"""The pages, against a real Git repository and a real directory; the servers are dead."""

from __future__ import annotations

import html
import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from werkzeug.test import TestResponse

from state.edits.edit import Edit
from state.edits.users import register
from state.git.commits import Author
from state.git.repository import Repository
from state.model.keys import parse_key
from state.wire.messages import Drift, Failure, Report
from tests.integration import slapd
from tests.integration.slapd import Slapd
from tests.integration.sshd import ssh_key
from tests.integration.web import KEY, OTHER, PEOPLE, Web, make_web, push
from tests.patience import eventually
from tests.present import present
from webui.application import assemble, build
from webui.clone.source import StateSource
from webui.config import MailConfig
from webui.directory.transport.connections import WrongLoginError
from webui.doctor.iam import Iam
from webui.doctor.mail import NO_MAIL, mail, reachable
from webui.doctor.repository import whole
from webui.outbox.letters import KINDS
from webui.pages import saving
from webui.servers.nudge import outcome_of
from webui.services import EXTENSION

pytestmark = pytest.mark.skipif(
    not Path("/usr/sbin/slapd").exists(), reason="needs slapd (apt-get install slapd)"
)
THIRD = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA7uRYOIsqxRxpvEXGOD0uTmY2Gmg1kNzWc0PNsPgvZM"


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slapd]:
    with slapd.running(tmp_path_factory.mktemp("slapd"), PEOPLE) as running:
        yield running


@pytest.fixture
def web(tmp_path: Path, directory: Slapd) -> Web:
    dead = {"gpu17": ("127.0.0.1", slapd.free_port()), "gpu18": ("127.0.0.2", slapd.free_port())}
    return make_web(tmp_path, directory, dead)


def save(web: Web, page: str = "LQChen", **fields: str) -> TestResponse:
    typed = {"login": "lqchen", "password": "right horse", "keys": f"{KEY} lqchen@laptop"}
    return web.app.test_client().post(f"/user/{page}", data={**typed, **fields})


def get(web: Web, path: str) -> str:
    return web.app.test_client().get(path).get_data(as_text=True)


def commits(web: Web) -> int:
    return int(web.git("rev-list", "--count", "main"))


def stamp(page: str) -> str:
    found = re.search(r'name="shown" value="(\w*)"', page)
    assert found
    return found[1]


def test_a_first_visit_allocates_nothing_and_a_save_everything(web: Web) -> None:
    assert "Nothing is saved here yet" in get(web, "/user/LQChen")
    assert commits(web) == 1
    answer = save(web)
    assert answer.status_code == 303
    assert answer.headers["Location"].startswith("/save/")
    assert get(web, "/users") == "lqchen\n"
    assert get(web, "/user/lqchen/port") == "22000\n"
    assert get(web, "/user/lqchen/subuid") == "10000000\n"
    assert get(web, "/user/lqchen/name") == "Lequn Chen\n"
    assert get(web, "/user/lqchen/.ssh/authorized_keys") == f"{KEY} lqchen@laptop\n"
    assert web.git("log", "-1", "--format=%an <%ae>").strip() == "Lequn Chen <lqchen@example.org>"
    allowed = web.folder / "allowed"
    allowed.write_text("* " + (web.folder / "signing.pub").read_text())
    web.git("-c", f"gpg.ssh.allowedSignersFile={allowed}", "verify-commit", "main")


def test_the_page_leads_on_with_commands_that_are_right(web: Web) -> None:
    save(web)
    page = get(web, "/user/lqchen")
    assert "ssh register@gpu17-manage lqchen" in page
    assert "http://iam.mylab.com/user/lqchen/.ssh/config -o" in page
    assert "http://iam.mylab.com/user/lqchen/.ssh/config-connect -o" in page
    assert "Lequn Chen" in page
    assert "Ed25519" in page
    assert "new user lqchen (Lequn Chen)" in page


def test_a_registration_shows_up_in_known_hosts(web: Web) -> None:
    save(web)
    edit = register("gpu17", "lqchen", parse_key(OTHER))
    web.parts.source.publish(edit, Author("gpu17", "gpu17@servers.invalid"))
    lines = get(web, "/user/lqchen/.ssh/known_hosts").splitlines()
    assert [line.split(",")[0] for line in lines] == ["gpu17-manage", "gpu17", "gpu18-manage"]
    assert lines[1].endswith(OTHER)
    config = get(web, "/user/lqchen/.ssh/config")
    assert "Host gpu17-manage\n    HostName 127.0.0.1\n" in config
    assert "connect" not in config, "the classic one is the default"
    connecting = get(web, "/user/lqchen/.ssh/config-connect")
    assert "    ProxyCommand ssh -T gpu17-manage connect\n" in connecting
    assert re.sub(r" +ProxyCommand .*\n", "", connecting) == config


def prefixed(web: Web, prefix: str) -> None:
    """The accounts on the servers get this prefix."""
    fleet = {"account_prefix": prefix}
    edit = Edit(lambda state: replace(state, fleet=state.fleet.model_copy(update=fleet)))
    web.parts.source.publish(edit, Author("Alice Admin", "alice@mylab.com"))


def test_accounts_with_a_prefix_are_known_to_the_configuration(web: Web) -> None:
    save(web)
    assert "your account is called" not in get(web, "/user/lqchen")
    prefixed(web, "gpu-")
    page = get(web, "/user/lqchen")
    assert "your account is called <code>gpu-lqchen</code>" in page
    assert "ssh register@gpu17-manage lqchen" in page
    for address in ("config", "config-connect"):
        users = re.findall(r"    User (.*)", get(web, f"/user/lqchen/.ssh/{address}"))
        assert users == ["gpu-lqchen", "lqchen"] * 2


def test_the_copied_commands_work_in_a_shell(web: Web, tmp_path: Path) -> None:
    from webui.pages.user_page import include_command

    home = tmp_path / "home"
    (home / ".ssh").mkdir(parents=True)
    (home / ".ssh/config").write_text("Host other\n    User me\n")
    for _ in range(2):
        subprocess.run(["sh", "-c", include_command()], env={"HOME": str(home)}, check=False)
    text = (home / ".ssh/config").read_text()
    assert text == "Include lxc-gpu.config\nHost other\n    User me\n"
    (home / ".ssh/config").unlink()
    subprocess.run(["sh", "-c", include_command()], env={"HOME": str(home)}, check=False)
    assert (home / ".ssh/config").read_text() == "Include lxc-gpu.config\n"


def test_keys_are_replaced_by_what_is_saved(web: Web) -> None:
    save(web)
    both = f"{KEY} lqchen@laptop\n{OTHER} desk\n"
    assert save(web, "lqchen", keys=both).status_code == 303
    assert get(web, "/user/lqchen/.ssh/authorized_keys") == both
    assert save(web, "lqchen", keys=f"{OTHER} desk").status_code == 303
    assert get(web, "/user/lqchen/.ssh/authorized_keys") == f"{OTHER} desk\n"
    assert save(web, "lqchen", keys="").status_code == 303
    assert get(web, "/user/lqchen/.ssh/authorized_keys") == ""


@pytest.mark.parametrize(
    ("fields", "status", "said"),
    [
        ({"password": "wrong"}, 403, "The login or the password is wrong."),
        ({"password": ""}, 403, "The login or the password is wrong."),
        ({"login": "nobody"}, 403, "The login or the password is wrong."),
        ({"login": "*"}, 403, "The login or the password is wrong."),
        ({"login": ")(uid=*"}, 403, "The login or the password is wrong."),
        ({"login": "guest", "password": "guest-secret"}, 403, "among those who may use"),
        ({"keys": "nonsense"}, 422, "line 1"),
        ({"keys": f"{KEY}\n\nssh-rsa AAAA"}, 422, "line 3"),
        ({"keys": ""}, 422, "A first visit needs an SSH public key"),
        ({"keys": "-----BEGIN OPENSSH PRIVATE KEY-----"}, 422, "private key"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_saved(
    web: Web, fields: dict[str, str], status: int, said: str
) -> None:
    answer = save(web, **fields)
    page = answer.get_data(as_text=True)
    assert answer.status_code == status
    assert said in page
    assert "right horse" not in page
    assert "guest-secret" not in page
    assert fields.get("keys", KEY) in page
    assert commits(web) == 1


def test_a_known_person_by_another_spelling_is_the_same_person(web: Web) -> None:
    save(web)
    assert save(web, "lqchen", login="LQCHEN", keys=f"{KEY}\n{OTHER}").status_code == 303
    assert get(web, "/users") == "lqchen\n"
    answer = web.app.test_client().get("/user/LQChen")
    assert (answer.status_code, answer.headers["Location"]) == (302, "/user/lqchen")


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


def test_nobody_saves_on_somebody_elses_page(web: Web) -> None:
    save(web)
    answer = save(web, "lqchen", login="ann", password="ann's own", keys=THIRD)
    assert answer.status_code == 422
    assert "This is the page of lqchen" in answer.get_data(as_text=True)
    answer = save(web, "someone-new", keys=THIRD)
    assert "Your page is /user/lqchen" in answer.get_data(as_text=True)
    assert get(web, "/user/lqchen/.ssh/authorized_keys") == f"{KEY} lqchen@laptop\n"


def test_two_windows_lose_no_key(web: Web) -> None:
    save(web)
    shown = stamp(get(web, "/user/lqchen"))
    both = f"{KEY} lqchen@laptop\n{OTHER} desk"
    assert save(web, "lqchen", keys=both, shown=shown).status_code == 303
    late = save(web, "lqchen", keys=f"{KEY} lqchen@laptop\n{THIRD} phone", shown=shown)
    assert late.status_code == 422
    assert "changed meanwhile" in late.get_data(as_text=True)
    again = save(web, "lqchen", keys=f"{both}\n{THIRD}", shown=stamp(late.get_data(as_text=True)))
    assert again.status_code == 303


def test_guessing_gets_slow(web: Web) -> None:
    now = time.time()  # stands still: however long a look into the directory takes
    web.app.extensions[EXTENSION] = replace(web.parts, clock=lambda: now)
    answers = [save(web, password=f"guess {n}").status_code for n in range(8)]
    assert answers[:4] == [403] * 4
    assert 429 in answers[4:]
    assert int(save(web, password="guess").headers["Retry-After"]) >= 1


def test_a_guess_fetches_nothing(web: Web) -> None:
    now = time.time()
    signing, clone = web.parts.config.signing_key, web.folder / "quiet"
    quiet = StateSource(str(web.repository), clone, signing, 3600, lambda: now)
    known = quiet.current().revision
    parts = replace(web.parts, source=quiet, clock=lambda: now)
    push(web.folder / "work", "Say nothing new")
    now += 0.5
    guess = saving.Form("lqchen", "guess", KEY)
    with pytest.raises(WrongLoginError):
        saving.save(parts, "LQChen", guess, "192.0.2.1")
    while parts.throttle.attempt("lqchen", "192.0.2.1", now) <= 0:
        pass
    with pytest.raises(saving.SlowDownError):
        saving.save(parts, "LQChen", guess, "192.0.2.1")
    assert quiet.current().revision == known, "which waits for a fetch under way"
    now += 60
    saving.save(parts, "LQChen", replace(guess, password="right horse"), "192.0.2.1")
    assert quiet.current().revision != known


def test_guesses_count_together_however_the_login_is_typed(web: Web) -> None:
    now = time.time()
    web.app.extensions[EXTENSION] = replace(web.parts, clock=lambda: now)
    logins = ("lqchen", "MYLAB\\lqchen", "LQChen@example.org", "OTHER\\lqchen", "lqchen@mylab.com")
    answers = [save(web, login=login, password="guess").status_code for login in logins]
    assert answers == [403] * 4 + [429]


def test_nobody_learns_by_waiting_whose_login_another_is(web: Web, directory: Slapd) -> None:
    """Ann goes by two logins; the one tells nothing about the other, nor about who exists."""
    now = time.time()
    web.app.extensions[EXTENSION] = replace(web.parts, clock=lambda: now)
    slapd.modify(directory, "Ann Lee", uid=["ann", "annie"])
    try:
        tries = [save(web, login="ann", password="guess").status_code for _ in range(5)]
        assert tries == [403] * 4 + [429]
        for password in ("guess", "ann's own"):
            pages = [
                save(web, login=login, password=password).get_data(as_text=True).replace(login, "")
                for login in ("annie", "noone")
            ]
            assert pages[0] == pages[1]
            assert "If you did, wait a minute and try again." in pages[0]
        assert save(web, login="lqch\u00e9n", password="guess").status_code == 403
    finally:
        slapd.modify(directory, "Ann Lee", uid="ann")


def test_the_right_password_of_who_may_not_is_no_guess(web: Web) -> None:
    now = time.time()
    web.app.extensions[EXTENSION] = replace(web.parts, clock=lambda: now)
    guest = {"login": "guest", "password": "guest-secret"}
    assert [save(web, **guest).status_code for _ in range(6)] == [403] * 6
    assert "among those who may use" in save(web, **guest).get_data(as_text=True)


@pytest.mark.parametrize(
    "name", ["a'b", "a&b", "a(b)", "$(id)", "a%", "a`id`", "${7*7}", "{{7*7}}", "a\\b", "x' or '1"]
)
def test_hostile_logins_stay_text(web: Web, caplog: pytest.LogCaptureFixture, name: str) -> None:
    client = web.app.test_client()
    for answer in (
        client.get(f"/user/{quote(name)}"),
        client.get("/user", query_string={"login": name}, follow_redirects=True),
        client.post(f"/user/{quote(name)}", data={"login": name, "password": "x", "keys": KEY}),
    ):
        assert answer.status_code in (200, 403, 404)
        page = answer.get_data(as_text=True)
        assert name not in page or html.escape(name) == name
    said = [r.getMessage() for r in caplog.records if "event=refused" in r.getMessage()]
    assert all(set(each.split("user=")[1].split()[0]) <= set("abidxor1$7?._@-") for each in said)
    assert commits(web) == 1


def test_the_live_result_names_every_server(web: Web) -> None:
    place = save(web).headers["Location"]
    early = get(web, place)
    refreshed = '<noscript><meta http-equiv="refresh"' in early
    assert refreshed == ("under way" in early)
    eventually(lambda: "http-equiv" not in get(web, place))
    page = get(web, place)
    assert page.count("refuses connections") == 2
    assert "0 of 2 servers converged; 2 will follow" in page
    stream = web.app.test_client().get(f"{place}/events").get_data(as_text=True)
    first = next(line for line in stream.splitlines() if line.startswith("data: "))
    assert "gpu18" in json.loads(first.removeprefix("data: "))
    assert stream.endswith("event: done\ndata: {}\n\n")
    home = get(web, "/")
    assert home.count("unreachable") >= 2


def test_live_pages_give_their_places_back(web: Web) -> None:
    place = save(web).headers["Location"]
    client = web.app.test_client()
    for _ in range(40):
        with client.get(f"{place}/events") as answer:
            assert answer.status_code == 200
    held = [client.get(f"{place}/events") for _ in range(30)]
    assert {answer.status_code for answer in held} == {200, 503}
    for answer in held:
        answer.close()
    assert client.get(f"{place}/events").status_code == 200


def test_the_history_says_who_what_and_how_far_page_by_page(web: Web) -> None:
    save(web)
    for _ in range(26):
        save(web, "lqchen", keys=f"{KEY} lqchen@laptop\n{OTHER} desk")
        save(web, "lqchen", keys=f"{KEY} lqchen@laptop")
    page = get(web, "/history")
    assert page.count("<li><time") == 50
    assert "by Lequn Chen" in page
    assert "lqchen: add SSH key" in page
    assert 'href="/history?page=2"' in page
    older = get(web, "/history?page=2")
    assert "Begin the fleet" in older
    assert "new user lqchen (Lequn Chen): uid 20000, port 22000" in older
    for odd in ("0", "-3", "99999999", "x"):
        assert web.app.test_client().get(f"/history?page={odd}").status_code == 200


def report_of(web: Web, server: str, **fields: Any) -> None:
    revision = web.parts.source.newest().revision
    said = Report(server, revision, time.time(), 0.4)._replace(**fields)
    web.parts.board.post(outcome_of(server, said, "", web.parts.source.includes), ())


def saved_and_failed_to_nudge(web: Web, *words: Any, **fields: Any) -> None:
    place = save(web, *words, **fields).headers["Location"]
    eventually(lambda: "http-equiv" not in get(web, place))


def test_the_servers_pages_tell_the_truth(web: Web) -> None:
    saved_and_failed_to_nudge(web)
    edit = register("gpu17", "lqchen", parse_key(OTHER))
    web.parts.source.publish(edit, Author("gpu17", "gpu17@servers.invalid"))
    old = web.parts.source.newest().revision
    report_of(web, "gpu17")
    report_of(web, "gpu18", suspended="new disks")
    home = get(web, "/")
    assert home.count("converged") == 2  # the colour and the word
    assert "applied <time" in home
    assert "A sysadmin suspended it" in home
    assert "new disks" in get(web, "/server/gpu18")
    saved_and_failed_to_nudge(web, "lqchen", keys=f"{OTHER}\n{THIRD}")
    failure = Failure("account", "lqchen", "uid-taken", "Its uid is taken.", "Free the `uid`.")
    drift = (Drift(time.time() - 90, "put the port mapping of lqchen back"),)
    report_of(web, "gpu17", revision=old, failures=(failure,), drift=drift)
    home = get(web, "/")
    assert "1 problem for lqchen" in home
    assert "1 commit behind" in home
    assert "put the port mapping of lqchen back" in home
    page = get(web, "/server/gpu17")
    for said in ("uid-taken", "Its uid is taken.", "Free the <code>uid</code>.", "1 minute ago"):
        assert said in page
    own = get(web, "/user/lqchen")
    assert "couldn't do everything for you" in own
    assert "uid-taken" in own
    history = get(web, "/history")
    assert history.count("on 0 of 2 servers") == 1
    assert history.count("on all 2 servers") == 3
    assert web.app.test_client().get("/server/gpu99").status_code == 404


def test_old_addresses_and_unknown_ones(web: Web) -> None:
    client = web.app.test_client()
    moved = client.get("/manage/ssh-key/lqchen")
    assert moved.headers["Location"] == "/user/lqchen"
    assert client.get("/user?login=LQChen").headers["Location"] == "/user/LQChen"
    for path in ("/nowhere", "/save/no-such-token", "/user/a%2Cb", "/user/..%2f", "/user/-x"):
        answer = client.get(path)
        assert answer.status_code == 404
        assert "<h1>" in answer.get_data(as_text=True)
    assert client.post("/guide").status_code == 405
    for name in (
        "port",
        "subuid",
        "name",
        ".ssh/config",
        ".ssh/config-connect",
        ".ssh/known_hosts",
    ):
        answer = client.get(f"/user/nobody/{name}")
        assert answer.status_code == 404
        assert answer.content_type == "text/plain; charset=utf-8"
        assert answer.get_data(as_text=True) == "There is no user nobody.\n"


def test_the_how_to_names_this_laboratory(web: Web) -> None:
    begin = get(web, "/guide/begin?login=Dora.New")
    assert "ssh register@gpu17-manage dora-new" in begin
    assert "lqchen" not in begin
    assert "<script>" not in get(web, "/guide?login=<script>alert(1)</script>")
    for path in ("/guide/nothing", "/guide/..%2fdesign", "/guide/index.md"):
        assert web.app.test_client().get(path).status_code == 404


def test_megabytes_are_refused_kindly(web: Web) -> None:
    answer = save(web, keys="x" * 2_000_000)
    assert answer.status_code == 413
    assert "Far too much text" in answer.get_data(as_text=True)


def test_every_page_has_the_headers_that_protect_it(web: Web) -> None:
    save(web)
    for path in ("/", "/guide", "/user/lqchen", "/user/x", "/nowhere", "/users"):
        headers = web.app.test_client().get(path).headers
        assert headers["Content-Security-Policy"].startswith("default-src 'self'")
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "Set-Cookie" not in headers
    page = get(web, "/user/lqchen")
    assert "<script>" not in page
    assert "style=" not in page
    assert "onclick" not in page


def test_markup_in_comments_and_names_stays_text(web: Web) -> None:
    save(web, keys=f"{KEY} <script>alert(1)</script>")
    page = get(web, "/user/lqchen")
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page


def test_pages_go_on_while_the_repository_is_away(web: Web) -> None:
    save(web)
    away = web.repository.rename(web.repository.with_name("away"))
    eventually(lambda: "This may be out of date." in get(web, "/user/lqchen"))
    page = get(web, "/user/lqchen")
    assert "Lequn Chen" in page
    refused = save(web, "lqchen", keys=OTHER)
    assert refused.status_code in (422, 503)
    assert "Nothing was saved" in refused.get_data(as_text=True)
    away.rename(web.repository)
    assert save(web, "lqchen", keys=OTHER).status_code == 303


def test_passwords_reach_no_log(web: Web, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("DEBUG"):
        save(web)
        save(web, password="a wrong but telling one")
        save(web, "ann", login="ann", password="ann's own", keys="nonsense")
    assert "event=saved user=lqchen source=127.0.0.1" in caplog.text
    assert "event=refused" in caplog.text
    for secret in ("right horse", "a wrong but telling one", "ann's own"):
        assert secret not in caplog.text


def signed(key: Path, answer: TestResponse, *, instead: str = "") -> str:
    """What the command on the page prints, typed where this private key is."""
    found = re.search(r"<code>(echo &#39;lxc-gpu key of .*)</code>", answer.get_data(as_text=True))
    assert found
    line = html.unescape(found[1]).replace("~/.ssh/id_ed25519", str(key))
    line = re.sub("'.*'", f"'{instead}'", line) if instead else line
    return subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=True).stdout


ANN = {"login": "ann", "password": "ann's own"}


class TestAKeyThatSomebodyElseSaved:
    """A public key is no secret, so anybody may have saved it first."""

    @pytest.fixture
    def key(self, web: Web, tmp_path: Path) -> Path:
        """LQChen's key, which Ann saved as hers, besides her own."""
        public = ssh_key(tmp_path / "lqchens")
        assert save(web, "ann", keys=f"{public}\n{OTHER}", **ANN).status_code == 303
        return tmp_path / "lqchens"

    def test_its_owner_shows_it_by_a_signature_and_has_it(self, web: Web, key: Path) -> None:
        keys = key.with_suffix(".pub").read_text()
        refused = save(web, keys=keys)
        page = refused.get_data(as_text=True)
        assert refused.status_code == 422
        assert "is somebody else&#39;s already" in page
        assert "ann" not in page.lower().replace("cannot", ""), "whose it is, nobody is told"
        assert save(web, keys=keys, proof=signed(key, refused)).status_code == 303
        assert keys.split()[1] in get(web, "/user/lqchen/.ssh/authorized_keys")
        assert get(web, "/user/ann/.ssh/authorized_keys") == f"{OTHER}\n"
        assert "Shown to be theirs by a signature: SHA256:" in web.git("log", "-1", "--format=%b")

    def test_no_other_signature_moves_it(self, web: Web, key: Path, tmp_path: Path) -> None:
        keys = key.with_suffix(".pub").read_text()
        refused = save(web, keys=keys)
        ssh_key(tmp_path / "own")
        another = save(web, keys=keys, proof=signed(tmp_path / "own", refused))
        assert "somebody else&#39;s already" in another.get_data(as_text=True)
        for proof in (
            "hello",
            signed(key, refused, instead="lxc-gpu key of LQChen 0123"),
            signed(key, refused).replace("SSH SIGNATURE", "PGP SIGNATURE"),
        ):
            said = save(web, keys=keys, proof=proof).get_data(as_text=True)
            assert "The signature " in said
            assert "lxc-gpu key of " in said, "and what to sign stands there again"
        anns = {**ANN, "proof": signed(key, refused)}
        said = save(web, "ann", keys=f"{OTHER}", **anns).get_data(as_text=True)
        assert "is of another text" in said, "it was made for another login"
        assert "lqchen" not in get(web, "/users")

    def test_a_servers_key_is_not_to_be_had(self, web: Web, tmp_path: Path) -> None:
        public = (web.folder / "gpu17-host.pub").read_text()
        refused = save(web, keys=public).get_data(as_text=True)
        assert "is somebody else&#39;s already" in refused
        assert "ssh-keygen -Y sign" not in refused


def test_each_key_says_on_which_day_a_server_last_saw_it(web: Web) -> None:
    saved_and_failed_to_nudge(web, keys=f"{KEY} laptop\n{OTHER} desk\n")
    laptop = parse_key(KEY).fingerprint
    report_of(web, "gpu17", key_days={laptop: "2026-11-20"})
    report_of(web, "gpu18", key_days={laptop: "2026-11-24"})
    page = get(web, "/user/lqchen")
    assert re.findall(r">used ([\d-]+)<", page) == ["2026-11-24"]


def test_remove_takes_one_key_out_of_the_text(web: Web) -> None:
    save(web, keys=f"{KEY} laptop\n{OTHER} desk\n")
    page = get(web, "/user/lqchen")
    links = [html.unescape(each) for each in re.findall(r'href="([^"]*remove=[^"]*)"', page)]
    assert len(links) == 2
    asked = get(web, links[0].partition("#")[0])
    assert "Remove laptop?" in asked
    text = html.unescape(present(re.search(r"<textarea[^>]*>([^<]*)<", asked))[1])
    assert text == f"{OTHER} desk\n"
    assert get(web, "/user/lqchen/.ssh/authorized_keys").count("\n") == 2, "looking saves nothing"
    assert save(web, "lqchen", keys=text, shown=stamp(asked)).status_code == 303
    assert get(web, "/user/lqchen/.ssh/authorized_keys") == f"{OTHER} desk\n"
    assert "Remove <" not in get(web, "/user/lqchen?remove=%3Cscript%3E")


def damage(clone: Path) -> None:
    """As after a power cut: files that are there, and empty."""
    for file in (each for each in (clone / "objects").rglob("*") if each.is_file()):
        file.chmod(0o644)
        file.write_bytes(b"")


def test_a_damaged_clone_of_the_page_heals(web: Web, caplog: pytest.LogCaptureFixture) -> None:
    save(web)
    damage(web.folder / "clone")
    assert save(web, keys=f"{OTHER} lqchen@desk").status_code == 303
    assert "event=clone-damaged" in caplog.text
    damage(web.folder / "clone")
    eventually(lambda: "by Lequn Chen" in get(web, "/history"))
    damage(web.folder / "clone")
    again = build(web.parts.config, assemble(web.parts.config)).test_client()
    assert again.get("/user/lqchen").status_code == 200
    assert OTHER in again.get("/user/lqchen/.ssh/authorized_keys").get_data(as_text=True)


def test_the_doctor_finds_damage_and_abandoned_locks(web: Web) -> None:
    save(web)
    iam, clone = Iam(web.parts.config), web.folder / "clone"
    assert [finding.level for finding in whole(iam)] == ["ok"]
    lock = web.repository / "refs/heads/main.lock"
    lock.touch()
    os.utime(lock, (time.time() - 100, time.time() - 100))
    locked, _ = whole(iam)
    assert (locked.level, locked.hint.split()[-2:]) == ("wrong", ["rm", str(lock)])
    lock.unlink()
    good = Repository.clone(str(web.repository), web.folder / "gate-clone")
    damage(clone)
    _, hurt = whole(iam)
    assert f"The clone {clone} is damaged" in hurt.text
    damage(web.repository)
    lost, _ = whole(iam)
    assert f"{web.repository} is damaged" in lost.text
    away, made, _ = lost.hint.split("; ")  # the last word is set-up's
    for line in (away, made.partition(" -- ")[2]):
        subprocess.run(line, shell=True, check=True)
    assert web.git("rev-parse", "main").strip() == good.tip()


HOSTILE = (
    b"author Eve <e@x> 999999999999 +0000",  # no calendar has it
    b"author Eve <e@x> 99999999999999999 +9959",
    b"author E\x1b[2Jv\xe2\x80\xaee <e@x> 1700000000 +0000",  # control characters
    b"author \xff\xfe\xff <\xff> 1700000000 +0000",  # no text at all
    b"author E+AAA-v+AAo-e <e@x> 1700000000 +0000\nencoding UTF-7",  # NUL and a new line
)
"""What commits may say of their authors: `git fsck` lets it pass."""


def test_nothing_that_a_commit_says_breaks_a_page(web: Web) -> None:
    save(web)
    for author in HOSTILE:
        for tree in (web.git("hash-object", "-t", "tree", "-w", "/dev/null"), "main~1^{tree}"):
            ids = web.git("rev-parse", tree.strip(), "main").split()
            said, _, charset = author.partition(b"\n")
            head = b"tree %b\nparent %b\n" % tuple(map(str.encode, ids)) + said
            head += b"\ncommitter Eve <e@x> 1700000000 +0000\n" + charset
            text = head.rstrip() + b"\n\nAbout +AAA- +AAo-\x1b]0;x\x07\n\n- " + b"x" * 100_000
            words = ["hash-object", "-t", "commit", "-w", "--stdin", "--literally"]
            done = subprocess.run(
                ["git", "-C", web.repository, *words], input=text, capture_output=True, check=True
            )
            web.git("update-ref", "refs/heads/main", done.stdout.decode().strip())
    web.parts.source.newest()
    assert commits(web) == 2 + 2 * len(HOSTILE)
    for page in ("/history", "/user/lqchen", "/server/gpu17"):
        answer = web.app.test_client().get(page)
        shown = answer.get_data(as_text=True)
        assert answer.status_code == 200, page
        assert shown.count("About +AAA- +AAo-") >= len(HOSTILE)
        assert not set(shown) & set("\x00\x07\x1b\N{RIGHT-TO-LEFT OVERRIDE}")
        assert len(shown) < 60_000


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
