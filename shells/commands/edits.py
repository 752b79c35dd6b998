"""Commands that edit the state in a sysadmin's clone: `lxc-gpu user|key|server|... ...`.

Each does what one could do by hand in the files, but allocates numbers and checks the rules.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from pydantic import ValidationError

from shells.commands.clone import Clone
from shells.terminal import Terminal
from state.edits.edit import Edit
from state.edits.sysadmins import (
    add_server,
    add_user,
    announce,
    drop_key,
    end_announcement,
    remove_registration,
)
from state.edits.users import add_key, disable, enable, name_of, register
from state.errors import LxcGpuError
from state.model.announcements import Announcement
from state.model.documents import Server
from state.model.keys import parse_key
from state.model.layout import subject_of
from state.model.pasted_keys import parse_keys
from state.reading.problems import Problem, StateInvalidError
from state.reading.syntax import BadYamlError, parse
from state.reading.wording import broken_rules

if TYPE_CHECKING:
    from state.model.documents import State
    from state.model.keys import PublicKey

F = TypeVar("F", bound=Callable[..., Any])


def _clone_options(command: F) -> F:
    where = click.Path(path_type=Path, exists=True, file_okay=False)
    command = click.option("--json", "as_json", is_flag=True, help="For programs: JSON.")(command)
    option = click.option(
        "--clone", type=where, default=".", help="A folder in the clone; default: the current one."
    )
    return option(command)


@click.group()
def user() -> None:
    """Add, show, disable or enable a user."""


@user.command("add")
@click.argument("login")
@click.option("--name", required=True, help="The user's full name.")
@click.option("--key", type=click.File("rb"), help="A file of public ssh keys; - means stdin.")
@_clone_options
def user_add(login: str, name: str, key: Any, clone: Path, as_json: bool) -> None:
    """Add a user with LOGIN in the directory, before they visit the web page."""
    _commit(clone, add_user(login, name, _keys(key) if key else ()), as_json)


@user.command("show")
@click.argument("name")
@_clone_options
def user_show(name: str, clone: Path, as_json: bool) -> None:
    """Show what the newest state says about a user, by name or login."""
    revision, state = Clone.open(clone).newest()
    known = name if name in {**state.users, **state.former} else name_of(state, name)
    if known is None:
        raise LxcGpuError(
            "unknown-user",
            f"There is no user {name}.",
            "`lxc-gpu check` counts the users that there are.",
        )
    facts = {"revision": revision, **_facts(state, known)}
    if as_json:
        click.echo(json.dumps(facts, ensure_ascii=False))
        return
    for field, value in facts.items():
        values = value if isinstance(value, list) else [value]
        click.echo(f"{field + ':':<14} " + f"\n{'':<15}".join(str(each) for each in values or "-"))


@user.command("disable")
@click.argument("name")
@_clone_options
def user_disable(name: str, clone: Path, as_json: bool) -> None:
    """Take a user's access away everywhere. Home, container and numbers are kept."""
    _commit(clone, disable(name), as_json)


@user.command("enable")
@click.argument("name")
@_clone_options
def user_enable(name: str, clone: Path, as_json: bool) -> None:
    """Let a user who had left return. Everything is as before."""
    _commit(clone, enable(name), as_json)


@click.group()
def key() -> None:
    """Add or remove a user's ssh key."""


@key.command("add")
@click.argument("user_name", metavar="USER")
@click.argument("file", type=click.File("rb"))
@_clone_options
def key_add(user_name: str, file: Any, clone: Path, as_json: bool) -> None:
    """Add the public keys in FILE (- means stdin) to those of USER."""
    added = [add_key(user_name, each) for each in _keys(file)]

    def apply(state: State) -> State:
        for edit in added:
            state = edit.apply(state)
        return state

    _commit(clone, Edit(apply), as_json)


@key.command("remove")
@click.argument("user_name", metavar="USER")
@click.argument("fingerprint")
@_clone_options
def key_remove(user_name: str, fingerprint: str, clone: Path, as_json: bool) -> None:
    """Remove the key with this FINGERPRINT (SHA256:...) from those of USER."""
    _commit(clone, drop_key(user_name, fingerprint), as_json)


@click.group()
def server() -> None:
    """Add a server."""


@server.command("add")
@click.argument("name")
@click.option("--address", help="Its IPv4 address.")
@click.option("--host-key", help="Its public ssh host key.")
@click.option("--state-key", help="The public key with which it reads the state repository.")
@_clone_options
def server_add(name: str, clone: Path, as_json: bool, **given: str | None) -> None:
    """Add the server NAME. Without options, what `setup/gpu-server` printed is read from stdin."""
    fields = {field: value for field, value in given.items() if value}
    if not fields:
        return _commit(
            clone, add_server(name, _server_from(name, sys.stdin.buffer.read())), as_json
        )
    lines = "".join(f"{field}: {json.dumps(value)}\n" for field, value in fields.items())
    return _commit(clone, add_server(name, _server_from(name, lines.encode())), as_json)


@click.group()
def registration() -> None:
    """Add or remove a registration: a user has a container on a server."""


@registration.command("add")
@click.argument("server_name", metavar="SERVER")
@click.argument("user_name", metavar="USER")
@click.option("--host-key", required=True, help="The container's public ssh host key.")
@_clone_options
def registration_add(
    server_name: str, user_name: str, host_key: str, clone: Path, as_json: bool
) -> None:
    """Register USER on SERVER. Users can do it themselves by `ssh register@SERVER-manage`."""
    _commit(clone, register(server_name, user_name, _key(host_key)), as_json)


@registration.command("remove")
@click.argument("server_name", metavar="SERVER")
@click.argument("user_name", metavar="USER")
@_clone_options
def registration_remove(server_name: str, user_name: str, clone: Path, as_json: bool) -> None:
    """Disable USER on SERVER only. The home and the container are kept until they are purged."""
    _commit(clone, remove_registration(server_name, user_name), as_json)


@click.group()
def announcement() -> None:
    """Announce something to everybody, or end an announcement."""


@announcement.command("add")
@click.argument("name")
@click.option("--text", required=True, help="One line for people.")
@click.option("--until", required=True, help="When it is over: '2026-12-01 12:30 +01:00'.")
@click.option("--from", "begins", help="When what it announces begins.")
@click.option(
    "--server",
    "servers",
    multiple=True,
    help="A server that it is about; may be repeated. Default: all servers.",
)
@click.option("--stop", is_flag=True, help="Containers are shut down from --from to --until.")
@_clone_options
def announcement_add(
    name: str,
    text: str,
    until: str,
    begins: str | None,
    servers: tuple[str, ...],
    stop: bool,
    clone: Path,
    as_json: bool,
) -> None:
    """Announce TEXT under NAME, replacing an announcement of that name."""
    given = {"text": text, "servers": list(servers), "from": begins, "until": until, "stop": stop}
    fields = {field: value for field, value in given.items() if value}
    _commit(clone, announce(name, _announcement_from(name, fields)), as_json)


@announcement.command("remove")
@click.argument("name")
@_clone_options
def announcement_remove(name: str, clone: Path, as_json: bool) -> None:
    """End the announcement NAME now. Containers that are down for it come back."""
    _commit(clone, end_announcement(name), as_json)


def _announcement_from(name: str, fields: dict[str, Any]) -> Announcement:
    """The announcement in these options. StateInvalidError names every problem."""
    path = f"announcements/{name}.yaml"
    try:
        subject_of(path)
        return Announcement.model_validate(fields)
    except ValidationError as error:
        problems = [Problem(path, 0, f.message) for f in broken_rules(path, Announcement, error)]
    except ValueError as error:
        problems = [Problem(path, 0, str(error))]
    raise StateInvalidError(problems, hint="lxc-gpu announcement add --help")


def _commit(folder: Path, edit: Edit, as_json: bool) -> None:
    """Commit and push an edit, and print the result."""
    clone = Clone.open(folder)
    committed = clone.commit(edit)
    followed = clone.follow(committed)
    if as_json:
        facts = {"revision": committed.revision, "changed": committed.changed}
        click.echo(json.dumps({**facts, "message": committed.message}, ensure_ascii=False))
    elif not committed.changed:
        Terminal().note(
            f"Nothing changes: revision {committed.revision[:10]} says the same already."
        )
    else:
        Terminal().result(f"{committed.revision[:10]} {committed.message}")
        where = "and is in your clone" if followed else "; `git pull` brings it into your clone"
        Terminal().note(f"Pushed{'' if where.startswith(';') else ' '}{where}.")


def _keys(file: Any) -> tuple[PublicKey, ...]:
    try:
        keys = parse_keys(file.read().decode("utf-8"))
    except UnicodeDecodeError:
        raise LxcGpuError(
            "bad-key", f"{file.name} is not a text file.", "Give the .pub file."
        ) from None
    if not keys:
        raise LxcGpuError("bad-key", f"{file.name} contains no public key.", "Give the .pub file.")
    return keys


def _key(text: str) -> PublicKey:
    try:
        return parse_key(text)
    except ValueError as error:
        raise LxcGpuError("bad-key", f"That is not a public key: {error}.") from None


def _server_from(name: str, content: bytes) -> Server:
    """The server described by the YAML in `content`. StateInvalidError names every problem."""
    path = f"servers/{name}.yaml"
    try:
        subject_of(path)
        return Server.model_validate(parse(content))
    except BadYamlError as error:
        problems = [Problem(path, error.line, str(error))]
    except ValidationError as error:
        problems = [Problem(path, 0, found.message) for found in broken_rules(path, Server, error)]
    except ValueError as error:
        problems = [Problem(path, 0, str(error))]
    raise StateInvalidError(problems, hint="See `setup/gpu-server`: it prints the whole file.")


def _facts(state: State, name: str) -> dict[str, Any]:
    user = state.users.get(name) or state.former[name]
    return {
        "user": name,
        "name": user.name,
        "login": user.login,
        "directory_id": user.directory_id or "",
        "status": "here" if name in state.users else "has left",
        "uid": user.uid,
        "port": user.port,
        "subid": user.subid,
        "keys": [f"{key.fingerprint} {key.type} {key.comment}".strip() for key in user.keys],
        "registrations": [s for s, users in state.registrations.items() if name in users],
    }
