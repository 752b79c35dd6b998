"""What the doctor says of the directory's servers: real slapds, real handshakes."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from state.wire.findings import Finding, Level
from tests.integration import active_directory, slapd
from tests.integration.certificates import DAY, authority, issue
from tests.integration.hostile import BIND, BUSY, SEARCH, relaying, saying, serving, silent
from tests.integration.slapd import Slapd
from tests.integration.test_controllers import ENTRIES, TEMPLATE
from tests.integration.test_directory import PLAIN, config
from webui.config import DirectoryConfig, UsageConfig, WebConfig
from webui.doctor import login
from webui.doctor.directory_servers import directory_servers
from webui.doctor.iam import Iam

pytestmark = pytest.mark.skipif(
    not Path("/usr/sbin/slapd").exists(), reason="needs slapd (apt-get install slapd)"
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slapd]:
    with slapd.running(tmp_path_factory.mktemp("slapd"), ENTRIES) as running:
        yield running


def iam(directory: DirectoryConfig, login: str = "") -> Iam:
    nowhere = dict.fromkeys(("clone", "signing_key", "nudge_key"), "/nowhere")
    fields = {"public_url": "http://iam", "repository": "/nowhere", "directory": directory}
    return Iam(WebConfig.model_validate({**fields, **nowhere}), login)


def said(directory: DirectoryConfig) -> list[Finding]:
    """Everything that the doctor finds."""
    return list(directory_servers(iam(directory)))


def only(directory: DirectoryConfig, level: Level) -> Finding:
    """The one finding of this kind, the worst that there is."""
    worse = [each for each in said(directory) if each.level in (level, Level.WRONG)]
    found = [each for each in worse if "UNENCRYPTED" not in each.text]
    assert [each.level for each in found] == [level], found
    return found[0]


def test_a_bind_template_is_judged_as_the_page_uses_it(server: Slapd) -> None:
    """No service account is missed, and none is tried."""
    seen: list[int] = []
    with relaying(server.plain, seen.append) as url:
        found = said(config(server, servers=[url], **PLAIN, **TEMPLATE))
    assert [each.level for each in found] == [Level.NOTE, Level.NOTE, Level.OK]
    assert "checks passwords of" in found[-1].text
    assert (seen.count(BIND), seen.count(SEARCH)) == (1, 0)


SILENT = "restrict extended=1.3.6.1.4.1.4203.1.11.3"
"""slapd answers no "Who am I?" (slapd.conf(5))."""


def test_a_directory_that_does_not_say_who_is_bound_is_none_for_a_template(tmp_path: Path) -> None:
    with slapd.running(tmp_path, ENTRIES, SILENT) as silent:
        found = said(config(silent, **PLAIN, **TEMPLATE))
        assert [each.level for each in found].count(Level.WRONG) == 0, "it may, later"
        assert "doesn't say who is bound (asked before any login)" in found[-1].text
        both = config(silent, **PLAIN, bind_template=TEMPLATE["bind_template"])
        assert "login-unclear" in only(both, Level.WRONG).text
        assert Level.WRONG not in [each.level for each in said(config(silent, **PLAIN))]


def test_both_ways_are_judged_where_both_are_used(server: Slapd) -> None:
    found = said(config(server, **{"bind_template": TEMPLATE["bind_template"]}))
    assert [each.level for each in found].count(Level.OK) == 2
    assert f"lets us in as {slapd.SERVICE_DN}" in found[-1].text


def test_a_server_that_takes_any_password_is_wrong(server: Slapd) -> None:
    with relaying(server.plain, fault=saying(0), at=(BIND, 1)) as url:
        found = only(config(server, servers=[url], **PLAIN, **TEMPLATE), Level.WRONG)
    assert "accepts any login with any password" in found.text


@pytest.mark.parametrize("way", [{}, TEMPLATE], ids=["service", "template"])
def test_a_server_that_is_busy_or_silent_is_named(server: Slapd, way: dict[str, Any]) -> None:
    with relaying(server.plain, fault=saying(BUSY), at=(BIND, 1)) as busy:
        found = only(config(server, servers=[busy], **PLAIN, **way), Level.WRONG)
        assert f"{busy} answers that it can't serve now" in found.text
    with relaying(server.plain, fault=silent, at=(BIND, 1)) as quiet:
        found = only(config(server, servers=[quiet], **PLAIN, **way), Level.WRONG)
        assert f"{quiet} doesn't answer" in found.text


def test_what_is_missing_is_said_once_for_each_server(server: Slapd) -> None:
    missing = f"cn=nobody,ou=groups,{slapd.BASE}"
    found = only(config(server, allow_groups=[missing]), Level.WRONG)
    assert missing in found.text
    assert "allow_groups" in found.hint


def test_a_group_of_past_weeks_that_is_missing_is_said(server: Slapd) -> None:
    missing = f"cn=nobody,ou=groups,{slapd.BASE}"
    given = iam(config(server))
    usage = UsageConfig(groups={"Nobody": missing})
    given = replace(given, config=given.config.model_copy(update={"usage": usage}))
    (found,) = [each for each in directory_servers(given) if each.level is Level.WRONG]
    assert missing in found.text
    assert "[usage]: `groups`, Nobody" in found.hint


def test_what_speaks_no_tls(server: Slapd) -> None:
    url = server.plain.replace("ldap:", "ldaps:")
    found = only(config(server, servers=[url]), Level.WRONG)
    assert "TLS fails" in found.text


class TestCertificates:
    """Which one is refused, or soon will be, why, and what to type."""

    @staticmethod
    def judged(server: slapd.Slapd, tls: slapd.Certificates, level: Level, ca: object) -> Finding:
        with relaying(server.plain, tls=tls) as url:
            return only(config(server, servers=[url], ca_file=ca), level)

    def test_a_good_one(self, server: Slapd, tmp_path: Path) -> None:
        tls = issue(tmp_path, authority())
        with relaying(server.plain, tls=tls) as url:
            found = said(config(server, servers=[url], ca_file=tls.ca))
        assert [each.level for each in found] == [Level.OK]

    def test_one_that_a_strict_reader_refuses(self, server: Slapd, tmp_path: Path) -> None:
        """It is taken all the same, as with every Python."""
        tls = issue(tmp_path, authority(careful=False), careful=False)
        found = self.judged(server, tls, Level.NOTE, tls.ca)
        assert "breaks RFC 5280" in found.text
        assert "authorityKeyIdentifier" in found.hint

    def test_by_starttls_as_well(self, server: Slapd) -> None:
        found = only(config(server), Level.NOTE)
        assert "Missing Authority Key Identifier" in found.text or "RFC 5280" in found.text

    def test_one_for_another_name(self, server: Slapd, tmp_path: Path) -> None:
        tls = issue(tmp_path, authority(), names=("dc1.mylab.com", "dc1"))
        found = self.judged(server, tls, Level.WRONG, tls.ca)
        assert "is for dc1.mylab.com, dc1, not for 127.0.0.1" in found.text
        assert '"ldaps://dc1.mylab.com:' in found.hint

    def test_one_that_ended_and_one_that_will(self, server: Slapd, tmp_path: Path) -> None:
        lab = authority()
        old = issue(tmp_path / "old", lab, ends=-3 * DAY)
        assert "ended on 20" in self.judged(server, old, Level.WRONG, old.ca).text
        soon = issue(tmp_path / "soon", lab, ends=3 * DAY + timedelta(hours=1))
        assert "ends in 3 days" in self.judged(server, soon, Level.NOTE, soon.ca).text

    @pytest.mark.parametrize("name", ["Another CA", "Lab CA"])
    def test_one_by_another_authority(self, server: Slapd, tmp_path: Path, name: str) -> None:
        tls, ours = issue(tmp_path, authority()), authority(name)
        found = self.judged(server, tls, Level.WRONG, ours.save(tmp_path / "ours.pem"))
        assert "is signed by CN=Lab CA, which isn't in `ca_file`" in found.text
        assert "-showcerts" in found.hint

    def test_one_that_vouches_for_itself(self, server: Slapd, tmp_path: Path) -> None:
        """What is typed then cures."""
        one, other = (issue(tmp_path / name, None) for name in ("one", "other"))
        pinned = authority().save(tmp_path / "ours.pem")
        first, second = (relaying(server.plain, tls=tls) for tls in (one, other))
        with first as one_url, second as other_url:
            for url in (one_url, other_url):
                found = only(config(server, servers=[url], ca_file=pinned), Level.WRONG)
                assert "self-signed" in found.text
                typed = found.hint.partition(";")[0]
                subprocess.run(["bash", "-c", typed], check=True, capture_output=True)
            both = said(config(server, servers=[one_url, other_url], ca_file=pinned))
        assert Level.WRONG not in [each.level for each in both], "curing one harms no other"

    def test_a_ca_file_that_is_none(self, server: Slapd, tmp_path: Path) -> None:
        missing = only(config(server, ca_file=tmp_path / "none.pem"), Level.WRONG)
        assert "can't be used: No such file" in missing.text
        empty = tmp_path / "empty.pem"
        empty.write_text("nothing\n")
        assert "no certificate in it" in only(config(server, ca_file=empty), Level.WRONG).text

    def test_an_authority_that_ends(self, server: Slapd, tmp_path: Path) -> None:
        tls = issue(tmp_path, authority(ends=2 * DAY))
        found = self.judged(server, tls, Level.NOTE, tls.ca)
        assert "Lab CA ends on" in found.text


def test_a_server_that_isn_t_there(server: Slapd) -> None:
    def hang_up(client: socket.socket) -> None:
        client.close()

    with serving(hang_up) as port:
        url = f"ldaps://127.0.0.1:{port}"
        assert only(config(server, servers=[url]), Level.WRONG).text.startswith(url)
    url = f"ldap://127.0.0.1:{slapd.free_port()}"
    assert "doesn't answer" in only(config(server, servers=[url]), Level.WRONG).text


def test_a_login_can_t_be_looked_at_by_a_bind_template_alone(server: Slapd) -> None:
    (found,) = login.judged(iam(config(server, **TEMPLATE), "lqchen"))
    assert found.level is Level.NOTE
    assert "bind_dn" in found.hint


def test_where_no_server_answers_each_is_judged_for_a_login(server: Slapd) -> None:
    dead = [f"ldap://127.0.0.1:{slapd.free_port()}" for _ in range(2)]
    found = list(login.judged(iam(config(server, servers=dead), "lqchen")))
    assert [each.text.partition(" ")[0] for each in found] == dead


def test_active_directory_with_a_bind_template_is_fine(tmp_path: Path) -> None:
    """Nobody may search there without an account."""
    with active_directory.running(tmp_path) as domain:
        fields = {
            "servers": [domain.plain, domain.tls],
            "base": active_directory.BASE,
            "allow": "(objectClass=user)",
            "ca_file": domain.certificates.ca,
        }
        template = {**fields, "bind_template": f"{{login}}@{active_directory.REALM}"}
        found = said(DirectoryConfig.model_validate(template))
        assert [each.level for each in found].count(Level.OK) == 2
        assert Level.WRONG not in [each.level for each in found]
        wrong = only(
            DirectoryConfig.model_validate({**fields, "servers": [domain.tls]}), Level.WRONG
        )
        assert "doesn't let us search" in wrong.text
        assert "bind_dn" in wrong.hint
