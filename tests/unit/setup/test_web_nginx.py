"""What stands in front of the web page, by what web.toml says."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "setup"))
from installation import web_nginx
from installation.web_nginx import EVERYBODY, LOOPBACK, SOCKET, Site, render

from state.errors import LxcGpuError
from webui import config


def site(listen: str = "127.0.0.1:8080", tls: bool = False, proxy: bool = False, *by: str) -> Site:
    return Site("iam.mylab.com", listen, tls, proxy, by, 100)


def listens(text: str) -> list[str]:
    return re.findall(r"^    listen (.*);$", text, re.MULTILINE)


PLACES = {
    "as before": (site("0.0.0.0:80"), ["0.0.0.0:80"], ()),
    "TLS": (site(tls=True), ["80", "[::]:80", "443 ssl", "[::]:443 ssl", "127.0.0.1:8080"],
            LOOPBACK),
    "no way round TLS": (site("0.0.0.0:8080", tls=True),
                         ["80", "[::]:80", "443 ssl", "[::]:443 ssl"], ()),
    "a proxy here": (site(), ["127.0.0.1:8080"], LOOPBACK),
    "a proxy elsewhere": (site("10.0.0.2:80", False, True, "10.0.0.1"), ["10.0.0.2:80"],
                          ("10.0.0.1",)),
    "one not named": (site("10.0.0.2:80", proxy=True), ["10.0.0.2:80"], EVERYBODY),
    "one not named, TLS": (site("10.0.0.2:81", tls=True, proxy=True),
                           ["80", "[::]:80", "443 ssl", "[::]:443 ssl", "10.0.0.2:81"], ()),
}  # fmt: skip


@pytest.mark.parametrize(("given", "places", "believed"), PLACES.values(), ids=PLACES)
def test_where_nginx_answers_and_whom_it_believes(
    given: Site, places: list[str], believed: tuple[str, str] | tuple[str]
) -> None:
    text = render(given)
    assert listens(text) == places
    assert re.findall(r"set_real_ip_from (.*);", text) == list(believed)
    assert ("real_ip_header" in text) == bool(believed)
    assert ("ssl_certificate " in text) == given.tls
    assert "proxy_set_header X-Forwarded-For $remote_addr;" in text
    assert not re.search(r"@[A-Z]+@", text)
    assert "[::]" not in render(given, ipv6=False)


def test_an_edited_site_of_an_earlier_release_loses_no_certificate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web_nginx, "OF_OLD", tmp_path / "lxc-gpu.conf")
    web_nginx.refuse_foreign_certificate(new=False)
    web_nginx.OF_OLD.write_text(f"  ssl_certificate {web_nginx.CERTIFICATE};\n")
    web_nginx.refuse_foreign_certificate(new=False)
    web_nginx.OF_OLD.write_text("  ssl_certificate /etc/letsencrypt/x.pem;\n")
    with pytest.raises(LxcGpuError, match="--tls-certificate /etc/letsencrypt"):
        web_nginx.refuse_foreign_certificate(new=False)
    web_nginx.refuse_foreign_certificate(new=True)


def test_the_unit_and_nginx_name_one_socket() -> None:
    unit = Path(render.__code__.co_filename).parents[1] / "web" / "lxc-gpu-web.socket"
    assert f"ListenStream={SOCKET}\n" in unit.read_text()
    assert f"unix:{SOCKET} " in render(site())


def test_both_readers_of_web_toml_know_the_loopback() -> None:
    from installation.web_config import is_loopback

    for listen in ("127.0.0.1:8080", "127.9.9.9:1", "[::1]:80", "localhost:8080", "0.0.0.0:80",
                   "[::]:80", "10.0.0.2:80"):  # fmt: skip
        there = config.WebConfig.model_construct(listen=listen).is_loopback
        assert is_loopback(listen) == there
