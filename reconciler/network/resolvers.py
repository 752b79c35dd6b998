"""The name servers of containers."""

from __future__ import annotations

import re
from ipaddress import IPv4Address
from pathlib import Path

from state import files
from state.view import View

_DOMAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,252}", re.ASCII)
FILES = (Path("/run/systemd/resolve/resolv.conf"), Path("/etc/resolv.conf"))


def resolvers(view: View) -> tuple[str, ...]:
    """The addresses in the containers' resolv.conf(5): the state's, or else the server's own."""
    return view.nameservers or _of_the_server()


def _of_the_server() -> tuple[str, ...]:
    """The server's resolvers that a container can reach, too: IPv4, and not on loopback."""
    for file in FILES:
        lines = (line.split() for line in (files.read_text(file) or "").splitlines())
        found = tuple(f[1] for f in lines if f[:1] == ["nameserver"] and len(f) > 1)
        if usable := tuple(address for address in found if _reachable(address)):
            return usable
    return ()


def resolv_conf(view: View) -> str:
    """The containers' resolv.conf(5): name servers, and the server's own search domains."""
    lines = [f"nameserver {address}" for address in resolvers(view)]
    domains = next(filter(None, map(_searched, FILES)), ())
    lines += [f"search {' '.join(domains)}"] if domains else []
    return "".join(f"{line}\n" for line in lines)


def _searched(file: Path) -> tuple[str, ...]:
    return search_domains(files.read_text(file) or "")


def search_domains(text: str) -> tuple[str, ...]:
    """The search domains of a resolv.conf(5), which are those of its last such line. Pure.

    systemd-resolved writes `search .` if there are none.
    """
    lines = [line.split() for line in text.splitlines()]
    found = [line[1:] for line in lines if line[:1] in (["search"], ["domain"])]
    return tuple(name for name in (found[-1] if found else ()) if _DOMAIN.fullmatch(name))


def _reachable(address: str) -> bool:
    try:
        return not IPv4Address(address).is_loopback
    except ValueError:
        return False
