"""Whom containers ask for names, and in which domains short names are looked up."""

from pathlib import Path

import pytest

from reconciler.container.lxc_config import lxc_config, resolvers_in, resolvers_line
from reconciler.doctor import network
from reconciler.network import resolvers
from state.wire.findings import Level
from tests.unit.reconciler.views import RESIDENT, VIEW


@pytest.mark.parametrize(
    ("text", "domains"),
    [
        ("nameserver 1.1.1.1\nsearch mylab.com cs.uni.edu\n", ("mylab.com", "cs.uni.edu")),
        ("domain mylab.com\n", ("mylab.com",)),
        ("search a\nsearch b c\n", ("b", "c")),
        ("search .\n", ()),  # systemd-resolved's word for none
        ("#search a\nsearch\n", ()),
        ("search ok -bad ba;d ../x \u00fc.de\n", ("ok",)),
        ("", ()),
    ],
)
def test_search_domains_as_resolv_conf_has_them(text: str, domains: tuple[str, ...]) -> None:
    assert resolvers.search_domains(text) == domains


def test_the_servers_search_domains_come_into_containers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "resolv.conf"
    file.write_text("search mylab.com\nnameserver 172.16.2.3\nnameserver ::1\noptions edns0\n")
    monkeypatch.setattr(resolvers, "FILES", (tmp_path / "none", file))
    assert resolvers.resolv_conf(VIEW) == "nameserver 172.16.2.3\nsearch mylab.com\n"
    file.write_text("nameserver 172.16.2.3\n")
    assert resolvers.resolv_conf(VIEW) == "nameserver 172.16.2.3\n"


def test_the_doctor_names_containers_with_old_resolvers() -> None:
    before, now = "nameserver 172.16.2.3\n", "nameserver 172.16.2.4\nsearch mylab.com\n"
    config = lxc_config(VIEW, "lqchen", RESIDENT, Path("/rootfs"), ())
    given = {
        "old": resolvers_in(config + resolvers_line(before)),
        "none": resolvers_in(config + resolvers_line("")),
        "new": resolvers_in(config + resolvers_line(now)),
        "earlier-release": resolvers_in(config),
    }
    finding = network.given_resolvers(given, now)
    assert finding.level is Level.NOTE
    assert "none, old." in finding.text
    assert finding.hint.endswith("nameserver 172.16.2.4; search mylab.com")
    assert network.given_resolvers({"new": given["new"]}, now).level is Level.OK
    assert network.given_resolvers({}, "").level is Level.OK
