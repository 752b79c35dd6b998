"""Plain-text pages for curl and scripts, also those of the first lxc-gpu."""

from __future__ import annotations

from collections.abc import Callable

from flask import Blueprint, Response

from state.model.documents import State
from webui.pages.user_page import config_text, known_hosts_text
from webui.services import services

plain = Blueprint("plain", __name__)


@plain.get("/users")
def users() -> Response:
    """The names of all users, one in a line."""
    return _text("".join(f"{name}\n" for name in sorted(_state().users)))


@plain.get("/user/<name>/port")
def port(name: str) -> Response:
    """The ssh port of a user's containers."""
    return _of_user(name, lambda state: f"{state.users[name].port}\n")


@plain.get("/user/<name>/subuid")
def subuid(name: str) -> Response:
    """The first of a user's subordinate ids."""
    return _of_user(name, lambda state: f"{state.users[name].subid}\n")


@plain.get("/user/<name>/name")
def full_name(name: str) -> Response:
    """A user's full name."""
    return _of_user(name, lambda state: f"{state.users[name].name}\n")


@plain.get("/user/<name>/.ssh/authorized_keys")
def authorized_keys(name: str) -> Response:
    """A user's public keys."""
    return _of_user(name, lambda state: "".join(f"{key}\n" for key in state.users[name].keys))


@plain.get("/user/<name>/.ssh/config")
def config(name: str) -> Response:
    """A user's ssh configuration, to be included in ~/.ssh/config."""
    return _of_user(name, lambda state: config_text(state, name))


@plain.get("/user/<name>/.ssh/config-connect")
def config_connect(name: str) -> Response:
    """A user's ssh configuration by which ssh starts a stopped container and needs no port."""
    return _of_user(name, lambda state: config_text(state, name, connect=True))


@plain.get("/user/<name>/.ssh/known_hosts")
def known_hosts(name: str) -> Response:
    """The host keys of the servers and of a user's containers."""
    return _of_user(name, lambda state: known_hosts_text(state, name))


def _of_user(name: str, text: Callable[[State], str]) -> Response:
    state = _state()
    if name not in state.users:
        return _text(f"There is no user {name[:64]}.\n", 404)
    return _text(text(state))


def _state() -> State:
    # Somebody who has just registered asks here for the new host key.
    return services().source.newest().state


def _text(text: str, status: int = 200) -> Response:
    return Response(text, status, content_type="text/plain; charset=utf-8")
