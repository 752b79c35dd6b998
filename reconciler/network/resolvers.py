"""Whom containers ask for names."""

from __future__ import annotations

from ipaddress import IPv4Address
from pathlib import Path

from state import files
from state.view import View

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


def _reachable(address: str) -> bool:
    try:
        return not IPv4Address(address).is_loopback
    except ValueError:
        return False
