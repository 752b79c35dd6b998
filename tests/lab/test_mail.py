"""Mail in the lab: from a server's notice to OpenSMTPD's mailbox, and word of it back."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from email import message_from_string
from email.message import EmailMessage
from email.policy import default

import pytest
from laboratory.directory.people import LQCHEN
from laboratory.directory.slapd import MAILDIR
from laboratory.hosts import Host
from laboratory.layout import DOMAIN

from tests.lab.fleet import Fleet
from tests.patience import eventually

WEB_TOML, OUTBOX = "/etc/lxc-gpu/web.toml", "/var/lib/lxc-gpu/outbox"
NOTICES = "/var/lib/lxc-gpu/notices.json"
PAGE = f"http://iam.{DOMAIN}/user/lqchen"
HOOK_PORT = 8765
CONFIG = f"""
[mail]
host = "ldap.{DOMAIN}"
tls = "none"
dangerously_unencrypted = true
from = "gpu@{DOMAIN}"
sysadmins = ["alice@{DOMAIN}"]

[webhook]
url = "http://localhost:{HOOK_PORT}/hooks/gpu"
"""
RECEIVER = f"""
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        with open("/run/hooked", "ab") as kept:
            kept.write(self.rfile.read(int(self.headers["Content-Length"])) + b"\\n")
        self.send_response(204)
        self.end_headers()
http.server.HTTPServer(("localhost", {HOOK_PORT}), Handler).serve_forever()
"""
SAY = """
import sys
from reconciler.notices import store
from state.wire.notices import Facts, NoticeKind
store.say(sys.argv[1], NoticeKind(sys.argv[2]), sys.argv[3], Facts(gpus=2, at=1.7e9, until=1.8e9))
"""


@pytest.fixture
def gpu17(fleet: Fleet) -> Host:
    return fleet.gpu17


@pytest.fixture(scope="class")
def mailing(fleet: Fleet, nudges: None) -> Iterator[Fleet]:
    """The page has a mail server and a webhook, and hears the servers."""
    iam = fleet.iam
    fleet.lab.host("ldap").sh(f"rm -f {MAILDIR}/new/*")
    for server in (fleet.gpu17, fleet.gpu18):  # what other tests had them say
        server.sh(f"rm -f {NOTICES}")
    before = iam.read(WEB_TOML)
    iam.write("/root/receiver.py", RECEIVER)
    iam.sh("rm -f /run/hooked; systemd-run -q --unit hooked python3 /root/receiver.py")
    iam.write(WEB_TOML, before + CONFIG, 0o644)
    iam.sh("systemctl restart lxc-gpu-web")
    yield fleet
    iam.write(WEB_TOML, before, 0o644)
    iam.sh(f"systemctl stop hooked; rm -rf {OUTBOX} /root/receiver.py; "
           "systemctl restart lxc-gpu-web")  # fmt: skip
    fleet.gpu17.sh(f"rm -f {NOTICES}")


def letters(fleet: Fleet) -> list[EmailMessage]:
    """Everything that the mail server got, whomever it is for."""
    end = secrets.token_hex(8)
    said = fleet.lab.host("ldap").sh(
        f"for each in {MAILDIR}/new/*; do test -f $each || continue; cat $each; echo {end}; done"
    )
    return [message_from_string(t.lstrip(), policy=default) for t in said.stdout.split(end)[:-1]]


def to_lqchen(fleet: Fleet) -> list[str]:
    return [str(m["Subject"]) for m in letters(fleet) if m["To"] == LQCHEN.mail]


def say(gpu17: Host, kind: str, about: str, user: str = "lqchen") -> None:
    gpu17.run(["/opt/lxc-gpu/bin/python", "-c", SAY, user, kind, about])


def known(gpu17: Host, about: str) -> dict[str, object]:
    found: dict[str, object] = next(
        each for each in json.loads(gpu17.read(NOTICES))["notices"] if each["about"] == about
    )
    return found


class TestMail:
    def test_a_notice_is_mailed_once_and_the_server_knows(
        self, mailing: Fleet, gpu17: Host
    ) -> None:
        say(gpu17, "gpus-free", "wait-1")
        say(gpu17, "gpus-free", "wait-2", user="mallory")
        eventually(lambda: known(gpu17, "wait-1")["accepted"], 100)
        (letter,) = (m for m in letters(mailing) if m["To"] == LQCHEN.mail)
        ident = known(gpu17, "wait-1")["notice"]["id"]  # type: ignore[index]
        assert letter["Message-ID"] == f"<gpu17.{ident}@iam.{DOMAIN}>"
        assert letter["Subject"] == "2 GPUs are free on gpu17"
        assert f"{PAGE}/mail" in letter.get_content()
        assert not known(gpu17, "wait-1")["open"]
        assert known(gpu17, "wait-2")["open"]
        mailing.iam.sh("systemctl kill -s KILL lxc-gpu-web; systemctl restart lxc-gpu-web")
        say(gpu17, "reservation-begins", "r1")
        eventually(lambda: known(gpu17, "r1")["accepted"], 100)
        assert to_lqchen(mailing).count("2 GPUs are free on gpu17") == 1

    def test_who_stops_a_kind_on_the_page_gets_no_more_of_it(
        self, mailing: Fleet, gpu17: Host
    ) -> None:
        post = f"curl -sS -o /dev/null -w '%{{http_code}} %{{redirect_url}}' {PAGE}/mail"
        login = f"-d login={LQCHEN.login} --data-urlencode 'password="
        form = f"-d shown=yes -d kind=gpus-free {login}"
        assert mailing.types(f"{post} {form}wrong'").stdout.startswith("403")
        saved = mailing.types(f"{post} {form}{LQCHEN.password}'")
        assert saved.stdout == f"303 {PAGE}/mail?saved=yes"
        assert "gpus-free" not in mailing.types(f"curl -sS {PAGE}/mail").stdout
        shown = mailing.types(f"curl -sS {PAGE}/mail {login}{LQCHEN.password}'").stdout
        assert 'value="gpus-free" checked' in shown
        assert 'value="idle" checked' not in shown
        say(gpu17, "idle", "start-1")
        say(gpu17, "will-stop", "start-1")
        eventually(lambda: "Your container on gpu17 will be stopped" in to_lqchen(mailing), 100)
        assert not is_told(gpu17, "idle")
        assert "Your container on gpu17 is idle" not in to_lqchen(mailing)

    def test_the_doctor_tries_without_sending_and_sends_when_asked(self, mailing: Fleet) -> None:
        looked = mailing.iam.sh("lxc-gpu doctor", check=False).stdout
        assert f"ldap.{DOMAIN}:25 lets us in, unencrypted; nothing was sent" in looked
        before = len(letters(mailing))
        sent = mailing.iam.sh(f"lxc-gpu doctor --mail bob@{DOMAIN}").stdout
        assert f"accepted a letter from gpu@{DOMAIN} to bob@{DOMAIN}" in sent
        eventually(lambda: len(letters(mailing)) == before + 1)

    def test_what_sysadmins_are_told_survives_a_kill_before_it_was_sent(
        self, mailing: Fleet
    ) -> None:
        ident = f"alert.{secrets.token_hex(8)}"
        plant = f"""
            now=$(date +%s); systemctl stop lxc-gpu-web
            echo '{{"said": [], "newest": {{"id": "{ident}", "at": '$now', "subject":
                "[lxc-gpu] gpu18 is silent", "text": "It is."}}}}' >{OUTBOX}/alerts.json
            chown lxc-gpu: {OUTBOX}/alerts.json; systemctl start lxc-gpu-web"""
        mailing.iam.sh(plant)
        eventually(
            lambda: f"<{ident}.0@iam.{DOMAIN}>" in [m["Message-ID"] for m in letters(mailing)], 100
        )
        hooked = "cat /run/hooked 2>/dev/null || true"
        eventually(lambda: "gpu18 is silent" in mailing.iam.sh(hooked).stdout)
        (line,) = mailing.iam.sh(hooked).stdout.splitlines()
        assert json.loads(line) == {"text": "[lxc-gpu] gpu18 is silent\n\nIt is."}


def is_told(gpu17: Host, kind: str) -> bool:
    """Whether no notice of the kind waits."""
    kept = json.loads(gpu17.read(NOTICES))["notices"]
    return not any(each["open"] for each in kept if each["notice"]["kind"] == kind)
