"""The How-to: what researchers read, with the names of this laboratory and of who reads."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from flask import Blueprint, abort, render_template, request, url_for

from state.model.documents import State
from webui.directory.logins import read
from webui.howto import EXAMPLE_URL, FIRST, chapters, page
from webui.pages.page_owner import by_login, proposed
from webui.services import services

howto = Blueprint("howto", __name__)


@howto.get("/guide", defaults={"name": FIRST})
@howto.get("/guide/<name>")
def guide(name: str) -> str:
    """One page of it; the first lists the others."""
    state = services().source.current().state
    chosen = _chosen(state)

    def address(other: str, heading: str) -> str:
        values: dict[str, Any] = {"name": other, **chosen} if other != FIRST else {**chosen}
        return url_for("howto.guide", _anchor=heading or None, **values)

    found = page(name, _examples(state, chosen), address)
    if found is None:
        abort(404)
    listed = chapters()
    place = next((n for n, each in enumerate(listed) if each.name == name), -1)
    return render_template(
        "howto.html", name=name, page=found, chapters=listed, address=address, chosen=chosen,
        before=listed[place - 1] if place > 0 else None, after=listed[place + 1 : place + 2],
        servers=dict(sorted(state.servers.items())), typed=request.args.get("login", ""),
    )  # fmt: skip


def _chosen(state: State) -> dict[str, str]:
    """What the reader has filled in; links carry it on."""
    login, server = request.args.get("login", "").strip(), request.args.get("server", "")
    chosen = {}
    if read(login) is not None:
        chosen["login"] = by_login(state, login) or proposed(state, login)
    if server in state.servers:
        chosen["server"] = server
    return chosen


def _examples(state: State, chosen: dict[str, str]) -> dict[str, str]:
    """What stands here for the names in the examples; without servers, the examples' own."""
    url = services().config.public_url.rstrip("/")
    name = chosen.get("login", "lqchen")
    examples = {
        EXAMPLE_URL: url,
        "iam.mylab.com": urlsplit(url).netloc or "iam.mylab.com",
        "lqchen": name,
    }
    if name in state.users:
        examples["22000"] = str(state.users[name].port)
    if not state.servers:
        return examples
    first = chosen.get("server", min(state.servers))
    server = state.servers[first]
    others = [other for other in sorted(state.servers) if other != first]
    examples["gpu17"] = first
    examples["gpu18"] = others[0] if others else "another-server"
    examples["172.16.2.17"] = str(server.address)
    examples["debian-12"] = server.template
    offered = [name for each in (first, *others) for name in state.servers[each].other_templates]
    return examples | ({"cuda-12": offered[0]} if offered else {})
