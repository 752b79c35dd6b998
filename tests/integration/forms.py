"""What people do on the pages, without a browser: look, fill in the form, send it."""

from __future__ import annotations

import re
from dataclasses import replace

from werkzeug.test import TestResponse

from state.edits.edit import Edit
from state.git.commits import Author
from tests.integration.web import KEY, Web

ANN = {"login": "ann", "password": "ann's own"}
THIRD = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA7uRYOIsqxRxpvEXGOD0uTmY2Gmg1kNzWc0PNsPgvZM"


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


def prefixed(web: Web, prefix: str) -> None:
    """The accounts on the servers get this prefix."""
    fleet = {"account_prefix": prefix}
    edit = Edit(lambda state: replace(state, fleet=state.fleet.model_copy(update=fleet)))
    web.parts.source.publish(edit, Author("Alice Admin", "alice@mylab.com"))
