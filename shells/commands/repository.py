"""`lxc-gpu init`, `check`, `schema` and `version`: commands for a state, without a server."""

from __future__ import annotations

import getpass
import json
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from shells.commands.judging import judge_in_hook, problems_listed
from shells.terminal import Terminal
from state.command import run
from state.errors import LxcGpuError
from state.git.commits import Author
from state.git.repository import Repository
from state.model.documents import FORMAT, Signer
from state.model.keys import parse_key
from state.model.layout import FLEET, MODELS
from state.reading.load import load
from state.reading.syntax import LARGEST_FILE
from state.words import plural

if TYPE_CHECKING:
    from state.git.commits import Author
    from state.model.documents import Signer, State

_OPTION = "fleet.yaml's `{}`, in YAML."


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--network", help=_OPTION.format("network") + " Default: 10.77.0.0/16")
@click.option("--uids", help=_OPTION.format("uids") + " Default: {first: 20000, last: 29999}")
@click.option("--ports", help=_OPTION.format("ports") + " Default: {first: 22000, last: 25999}")
@click.option("--forwards", help=_OPTION.format("forwards"))
@click.option("--subids", help=_OPTION.format("subids"))
@click.option("--bare", is_flag=True, help="Make the bare repository for the state instead.")
def init(folder: Path, bare: bool, **options: str | None) -> None:
    """Write a first state repository to FOLDER, which has to be new or empty."""
    from state.origin.first_state import init as write
    from state.origin.first_state import init_bare

    if bare:
        init_bare(folder)
        Terminal().note(f"{folder} is ready to be pushed to. Its hook refuses wrong revisions.")
        return
    given = {field: value for field, value in options.items() if value is not None}
    author, terminal = _author(), Terminal()
    signer, key = _own_signer(author)
    revision = write(folder, author, given, [signer] if signer else [], key)
    click.echo(revision)
    if signer:
        terminal.note(
            f"{signer.name} may sign, with the key {signer.key.fingerprint}: see fleet.yaml."
        )
    else:
        terminal.note("Nobody may sign yet: add yourself to the signers in fleet.yaml, and sign the"
                      " commit. Git's settings: gpg.format=ssh, user.signingKey.")  # fmt: skip
    terminal.note(f"Read {folder}/README.md next, then add servers.")


@click.command()
@click.argument("folder", type=click.Path(path_type=Path), default=".")
@click.option("--hook", is_flag=True, help="Judge a push, as Git's pre-receive hook.")
@click.option("--against", metavar="REVISION", help="Say in Markdown what merging the current "
              "branch into REVISION would change, and check the result.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="With --against: JSON instead.")
def check(folder: Path, hook: bool, against: str | None, as_json: bool) -> None:
    """List everything that is wrong with the state in FOLDER, a clone or a bare repository."""
    if hook:
        judge_in_hook()
        return
    if against is not None:
        _compare(folder, against, as_json)
        return
    with problems_listed():
        state = _state_in(folder)
    click.echo(
        f"ok: {plural(len(state.users), 'user')}, {plural(len(state.former), 'former user')},"
        f" {plural(len(state.servers), 'server')},"
        f" {plural(sum(map(len, state.registrations.values())), 'registration')}"
    )


@click.command()
@click.argument("name", required=False)
def schema(name: str | None) -> None:
    """Print the JSON Schema of the files of one kind, or of all."""
    from state.model.schema import schemas

    known = schemas()
    if name is not None and name not in known:
        raise LxcGpuError(
            "unknown-schema",
            f"There is no schema {name!r}.",
            f"The schemas are: {', '.join(known)}.",
        )
    click.echo(json.dumps(known if name is None else known[name], indent=2))


@click.command()
def version() -> None:
    """Print the version of lxc-gpu, and the format of the states that it reads."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    try:
        number = installed("lxc-gpu")
    except PackageNotFoundError:
        number = "not installed"
    click.echo(f"lxc-gpu {number}, state format {FORMAT}")


def _compare(folder: Path, revision: str, as_json: bool) -> None:
    from shells.commands.against import compare

    found = compare(folder, revision)
    text = (
        json.dumps(found.for_programs(), ensure_ascii=False)
        if as_json
        else found.markdown().rstrip()
    )
    click.echo(text)
    sys.exit(1 if found.problems else 0)


def _state_in(folder: Path) -> State:
    """The state in the work tree at `folder`, or at the tip of a bare repository."""
    if (folder / "HEAD").is_file() and (folder / "objects").is_dir():
        repository = Repository(folder)
        return repository.read(repository.tip())
    if not folder.is_dir():
        raise LxcGpuError("no-folder", f"There is no folder {folder}.", "lxc-gpu check FOLDER")
    return load(dict(_work_tree(folder)))


def _work_tree(folder: Path) -> Iterator[tuple[str, bytes]]:
    """The state's files below `folder` by path. Of odd ones, only as much is read as shows that."""
    tops = (folder / FLEET, *(folder / kind for kind in MODELS if kind != "fleet"))
    for top in tops:
        for path in (top, *top.rglob("*")) if top.is_dir() else (top,):
            if path.is_symlink():
                name = path.relative_to(folder)
                raise LxcGpuError("state-link", f"{name} is a link; files must be plain.")
            if path.is_file():
                with path.open("rb") as file:
                    yield path.relative_to(folder).as_posix(), file.read(LARGEST_FILE + 1)


def _author() -> Author:
    """Name and address of who runs this, by Git, or else by the system."""
    known = [run(["git", "config", f"user.{what}"], check=False) for what in ("name", "email")]
    name, email = (answer.stdout.strip() for answer in known)
    login = getpass.getuser()
    return Author(name or login, email or f"{login}@{socket.gethostname()}")


def _own_signer(author: Author) -> tuple[Signer | None, Path | None]:
    """The user of this command as the first admin; None if Git has no ssh key to sign with."""

    def setting(*words: str) -> str:
        return run(["git", "config", *words], check=False).stdout.strip()

    path = Path(setting("--type=path", "--get", "user.signingKey") or "-")
    public = path if path.suffix == ".pub" else path.with_name(f"{path.name}.pub")
    if setting("--get", "gpg.format") != "ssh" or not public.is_file():
        return None, None
    try:
        key = parse_key(public.read_text("utf-8"))
    except ValueError as error:
        raise LxcGpuError("bad-key", f"{public} contains no usable key: {error}.") from None
    return Signer(name=author.name, role="admin", key=key), path.absolute()
