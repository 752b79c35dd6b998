"""The pages, against a real Git repository and a real directory; the servers are dead."""

from __future__ import annotations

import html
import re
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from state.edits.edit import Edit
from state.edits.users import register
from state.git.commits import Author
from state.model.documents import State
from state.model.keys import parse_key
from state.wire.messages import Drift, Failure, Report
from tests.integration.forms import THIRD, commits, get, prefixed, save
from tests.integration.web import KEY, OTHER, Web
from tests.patience import eventually
from webui.servers.nudge import outcome_of


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


def test_the_usual_template_is_listed_once_with_what_it_is(web: Web) -> None:
    def offering(state: State) -> State:
        lines = {"debian-12": "plain", "cuda-12": "with CUDA"}
        here = state.servers["gpu17"].model_copy(update={"templates": lines})
        return replace(state, servers={**state.servers, "gpu17": here})

    save(web)
    web.parts.source.publish(Edit(offering), Author("root", "root@iam.invalid"))
    shown = [
        re.sub(r"<[^>]+>", "", html.unescape(get(web, path)))
        for path in ("/server/gpu17", "/guide/begin", "/user/lqchen")
    ]
    here, guide, user = (re.sub(r"\s+", " ", text) for text in shown)
    assert "debian-12, the default: plaincuda-12: with CUDA" in here
    assert "--template debian-12" not in here + guide + user
    assert "gpu17: debian-12, its usual one: plain; cuda-12: with CUDA" in guide
    assert "--template cuda-12 after your name: gpu17: cuda-12: with CUDA" in user


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


def test_each_key_says_on_which_day_a_server_last_saw_it(web: Web) -> None:
    saved_and_failed_to_nudge(web, keys=f"{KEY} laptop\n{OTHER} desk\n")
    laptop = parse_key(KEY).fingerprint
    report_of(web, "gpu17", key_days={laptop: "2026-11-20"})
    report_of(web, "gpu18", key_days={laptop: "2026-11-24"})
    page = get(web, "/user/lqchen")
    assert re.findall(r">used ([\d-]+)<", page) == ["2026-11-24"]


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
